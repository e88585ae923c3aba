// Package profile holds the rules that a certificate profile lays down: which keys its certificates may have, which names
// they must and may bear, how long they hold and what they are for.
//
// A Profile judges values and changes nothing. It is held against a certificate twice: when it is asked for, as far as can
// be told by then, and each time that it is signed, whoever asked. A nil *Profile is that of a certificate without one: it
// allows any key that is strong enough, and no URI among the names. Refusals are fault.Invalid and name the profile, the
// rule, the value, and what is allowed.
package profile

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

// ShortLived is what a lifetime is below of which a certificate needs no revocation: it ends before anybody would have
// heard of it.
const ShortLived = time.Hour

// Key is one kind of key that is allowed.
type Key struct {
	Algorithm string `json:"algorithm"`
	// MinSize is in bits.
	MinSize int `json:"min_size"`
}

// Profile is what certificates of it may be. Make one with [Spec.Profile]; it is immutable and safe for concurrent use.
type Profile struct {
	Spec
	Revision             int64
	CreatedAt, UpdatedAt time.Time

	required []*regexp.Regexp
	spiffe   *regexp.Regexp
	ekus     []x509.ExtKeyUsage
}

func (p *Profile) refuse(field, format string, a ...any) error {
	return fault.InvalidFields(fault.Field{Name: field, Reason: fmt.Sprintf("profile %s (%s) ", p.ID, p.Name) + fmt.Sprintf(format, a...)})
}

// CheckKey refuses a key that the profile does not allow.
func (p *Profile) CheckKey(pub crypto.PublicKey) error {
	if p == nil {
		return nil
	}
	algorithm, bits, _ := x509x.KeyAlgorithm(pub)
	if p.allows(algorithm, bits) {
		return nil
	}
	return p.refuse("csr_pem", "allows keys of %s by allowed_key_algorithms; this one is %s of %d bits", p.keys(), algorithm, bits)
}

func (p *Profile) allows(algorithm string, bits int) bool {
	return slices.ContainsFunc(p.Keys, func(k Key) bool {
		return k.Algorithm == algorithm && (bits >= k.MinSize || algorithm == x509x.Ed25519)
	})
}

func (p *Profile) keys() string {
	kinds := make([]string, len(p.Keys))
	for i, k := range p.Keys {
		kinds[i] = k.Algorithm
		if k.Algorithm != x509x.Ed25519 {
			kinds[i] += " from " + strconv.Itoa(k.MinSize) + " bits"
		}
	}
	return strings.Join(kinds, ", ")
}

// CheckNames refuses names of which the profile lacks one, or that it does not allow.
func (p *Profile) CheckNames(names x509x.Names) error {
	uris := names.Values(x509x.URI)
	if p == nil || p.spiffe == nil {
		if len(uris) > 0 {
			return fault.InvalidFields(fault.Field{
				Name: "sans", Reason: "holds the URI " + uris[0] + "; only a profile with spiffe_uri_pattern allows one",
			})
		}
		if p == nil {
			return nil
		}
	}
	if len(uris) > 1 {
		return p.refuse("sans", "allows one SPIFFE id by spiffe_uri_pattern; these are %s", strings.Join(uris, " and "))
	}
	for _, uri := range uris {
		if !spiffeID.MatchString(uri) {
			return p.refuse("sans", "allows the URI %s by spiffe_uri_pattern; %s is no SPIFFE id", p.SPIFFE, uri)
		}
		if !p.spiffe.MatchString(uri) {
			return p.refuse("sans", "allows the URI %s by spiffe_uri_pattern; %s does not fit", p.SPIFFE, uri)
		}
	}
	for i, pattern := range p.required {
		if !matchesOne(pattern, names) {
			return p.refuse("sans", "requires a name that fits %s by required_san_patterns; none of %s does",
				p.RequiredSANs[i], strings.Join(names.Values(), ", "))
		}
	}
	return nil
}

func matchesOne(pattern *regexp.Regexp, names x509x.Names) bool {
	for _, n := range names {
		if pattern.MatchString(n.Value) {
			return true
		}
	}
	return false
}

// Lifetime is how long a certificate is to hold, zero to leave it to the CA.
func (p *Profile) Lifetime() time.Duration {
	if p == nil {
		return 0
	}
	return p.MaxTTL
}

// Usages are what a certificate is to be for, nil to leave it to the CA.
func (p *Profile) Usages() []x509.ExtKeyUsage {
	if p == nil {
		return nil
	}
	return p.ekus
}

// IsShortLived reports whether certificates of the profile need no revocation.
func (p *Profile) IsShortLived() bool {
	return p != nil && p.AllowShortLived && p.MaxTTL > 0 && p.MaxTTL < ShortLived
}

// slack is how far the clocks of a CA and of ours may be apart.
const slack = time.Minute

// CheckIssued refuses a certificate in which a CA has granted more than it was asked for.
func (p *Profile) CheckIssued(der []byte, now time.Time) error {
	if p == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fault.Wrap(err, fault.Conflict, "what the CA has issued cannot be read")
	}
	if p.MaxTTL > 0 && cert.NotAfter.After(now.Add(p.MaxTTL+slack)) {
		return fault.New(fault.Conflict, "profile %s (%s) allows %s by max_ttl_seconds; the CA has issued a certificate until %s",
			p.ID, p.Name, p.MaxTTL, cert.NotAfter.UTC().Format(time.RFC3339))
	}
	if len(cert.ExtKeyUsage) == 0 && len(cert.UnknownExtKeyUsage) == 0 {
		return fault.New(fault.Conflict, "profile %s (%s) allows %s by allowed_ekus; the CA has issued a certificate for anything",
			p.ID, p.Name, strings.Join(p.EKUs, ", "))
	}
	for _, usage := range cert.ExtKeyUsage {
		if !contains(p.ekus, usage) {
			return fault.New(fault.Conflict, "profile %s (%s) allows %s by allowed_ekus; the CA has issued a certificate for %s besides",
				p.ID, p.Name, strings.Join(p.EKUs, ", "), usageName(usage))
		}
	}
	return nil
}

// Reuses reports whether a certificate keeps its key, of a kind, when it is renewed. A key that the profile no longer allows
// is given up.
func (p *Profile) Reuses(algorithm string, bits int) bool {
	return p != nil && p.ReuseKey && p.allows(algorithm, bits)
}

// AgentKey is the key that an agent is asked to make: the smallest ECDSA key that is allowed, else the first kind.
func (p *Profile) AgentKey() Key {
	if p == nil {
		return Key{x509x.ECDSA, 256}
	}
	for _, k := range p.Keys {
		if k.Algorithm == x509x.ECDSA {
			return Key{x509x.ECDSA, curveFrom(k.MinSize)}
		}
	}
	return p.Keys[0]
}

// curveFrom is the size of the smallest curve of at least so many bits.
func curveFrom(bits int) int {
	for _, size := range [...]int{256, 384} {
		if bits <= size {
			return size
		}
	}
	return 521
}
