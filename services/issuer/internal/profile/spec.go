package profile

import (
	"cmp"
	"crypto/x509"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/lint"
)

// Spec is a profile as people write it.
type Spec struct {
	ID, Name, Description string
	// Keys are the kinds of keys that are allowed.
	Keys []Key
	// MaxTTL bounds the lifetime; zero leaves it to the CA.
	MaxTTL time.Duration
	// EKUs are the names of the extended key usages that certificates bear.
	EKUs []string
	// RequiredSANs are regular expressions, each of which must match the whole of one name.
	RequiredSANs []string
	// SPIFFE is the pattern of the SPIFFE id that is allowed among the names, empty if none is.
	SPIFFE                   string
	AllowShortLived, Enabled bool
	// LintRuleset is which rules of others certificates are held against, LintMode what follows from one that is broken, and
	// LintIgnore the names of rules that are left out.
	LintRuleset lint.Ruleset
	LintMode    LintMode
	LintIgnore  []string
	// ReuseKey has agents keep the key of a certificate when it is renewed.
	ReuseKey bool
}

// What a profile allows that does not say.
var (
	DefaultKeys = []Key{{x509x.ECDSA, 256}, {x509x.RSA, x509x.MinRSABits}}
	DefaultEKUs = []string{"serverAuth"}
)

const (
	maxName        = 255
	maxDescription = 2000
	maxKeys        = 10
	maxPatterns    = 50
	maxPattern     = 512
	maxTTL         = 100 * 365 * 24 * time.Hour
)

// usages are the extended key usages that are offered, in the order in which they are listed.
var usages = []struct {
	name  string
	usage x509.ExtKeyUsage
}{
	{"serverAuth", x509.ExtKeyUsageServerAuth},
	{"clientAuth", x509.ExtKeyUsageClientAuth},
	{"codeSigning", x509.ExtKeyUsageCodeSigning},
	{"emailProtection", x509.ExtKeyUsageEmailProtection},
	{"timeStamping", x509.ExtKeyUsageTimeStamping},
}

func usageName(u x509.ExtKeyUsage) string {
	for _, known := range usages {
		if known.usage == u {
			return known.name
		}
	}
	return "usage " + strconv.Itoa(int(u))
}

func contains(all []x509.ExtKeyUsage, u x509.ExtKeyUsage) bool { return slices.Contains(all, u) }

// Profile checks a spec, fills in what it leaves out, and makes it fit to judge by. Its error is Invalid and names every
// field at fault.
func (s Spec) Profile() (*Profile, error) {
	var bad []fault.Field
	object := func(field, reason string) { bad = append(bad, fault.Field{Name: field, Reason: reason}) }
	s.Name = strings.TrimSpace(s.Name)
	if len(s.Keys) == 0 {
		s.Keys = DefaultKeys
	}
	if len(s.EKUs) == 0 {
		s.EKUs = DefaultEKUs
	}
	s.LintRuleset, s.LintMode = cmp.Or(s.LintRuleset, lint.RFC), cmp.Or(s.LintMode, LintWarn)
	p := &Profile{Spec: s}
	if !id.Valid(s.ID) {
		object("id", "must be 1 to 64 of a-z, 0-9, - and _, beginning with a letter or a digit")
	}
	if s.Name == "" {
		object("name", "is required")
	}
	checkText(object, "name", s.Name, maxName)
	checkText(object, "description", s.Description, maxDescription)
	checkKeys(object, s.Keys)
	checkTTL(object, s)
	checkLint(object, s)
	p.ekus = parseUsages(object, s.EKUs)
	p.required = parsePatterns(object, s.RequiredSANs)
	if s.SPIFFE != "" {
		p.spiffe = parseSPIFFE(object, s.SPIFFE)
	}
	if len(bad) > 0 {
		return nil, fault.InvalidFields(bad...)
	}
	return p, nil
}

func checkText(object func(field, reason string), field, s string, limit int) {
	if utf8.RuneCountInString(s) > limit {
		object(field, "has more than "+strconv.Itoa(limit)+" characters")
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
		object(field, "holds control characters")
	}
}

func checkKeys(object func(field, reason string), keys []Key) {
	if len(keys) > maxKeys {
		object("allowed_key_algorithms", "has more than "+strconv.Itoa(maxKeys)+" entries")
		return
	}
	for i, k := range keys {
		field := "allowed_key_algorithms[" + strconv.Itoa(i) + "]"
		switch {
		case k.Algorithm != x509x.RSA && k.Algorithm != x509x.ECDSA && k.Algorithm != x509x.Ed25519:
			object(field+".algorithm", strconv.Quote(k.Algorithm)+" is none of RSA, ECDSA and Ed25519")
		case k.Algorithm == x509x.RSA && (k.MinSize < x509x.MinRSABits || k.MinSize > x509x.MaxRSABits):
			object(field+".min_size", "must be "+strconv.Itoa(x509x.MinRSABits)+" to "+strconv.Itoa(x509x.MaxRSABits)+" for RSA")
		case k.Algorithm == x509x.ECDSA && (k.MinSize < 256 || k.MinSize > 521):
			object(field+".min_size", "must be 256 to 521 for ECDSA")
		}
	}
}

func checkTTL(object func(field, reason string), s Spec) {
	switch {
	case s.MaxTTL < 0 || s.MaxTTL > maxTTL:
		object("max_ttl_seconds", "must be 0 to "+strconv.FormatInt(int64(maxTTL/time.Second), 10))
	case s.AllowShortLived && s.MaxTTL >= ShortLived:
		object("allow_short_lived", "needs max_ttl_seconds below 3600; it is "+strconv.FormatInt(int64(s.MaxTTL/time.Second), 10))
	case !s.AllowShortLived && s.MaxTTL > 0 && s.MaxTTL < ShortLived:
		object("max_ttl_seconds", "below 3600 needs allow_short_lived")
	}
}

func parseUsages(object func(field, reason string), names []string) []x509.ExtKeyUsage {
	var out []x509.ExtKeyUsage
	for i, name := range names {
		found := false
		for _, known := range usages {
			if known.name != name {
				continue
			}
			found = true
			if !contains(out, known.usage) {
				out = append(out, known.usage)
			}
		}
		if !found {
			object("allowed_ekus["+strconv.Itoa(i)+"]",
				strconv.Quote(name)+" is none of serverAuth, clientAuth, codeSigning, emailProtection and timeStamping")
		}
	}
	return out
}

func parsePatterns(object func(field, reason string), patterns []string) []*regexp.Regexp {
	if len(patterns) > maxPatterns {
		object("required_san_patterns", "has more than "+strconv.Itoa(maxPatterns)+" entries")
		return nil
	}
	out := make([]*regexp.Regexp, len(patterns))
	for i, pattern := range patterns {
		field := "required_san_patterns[" + strconv.Itoa(i) + "]"
		if pattern == "" || len(pattern) > maxPattern || !utf8.ValidString(pattern) || strings.ContainsFunc(pattern, unicode.IsControl) {
			object(field, "must be 1 to "+strconv.Itoa(maxPattern)+" printable bytes")
			continue
		}
		compiled, err := regexp.Compile(`^(?:` + pattern + `)$`)
		// By itself too, lest it close the group around it.
		if _, alone := regexp.Compile(pattern); cmp.Or(err, alone) != nil {
			object(field, "is no regular expression (RE2): "+cmp.Or(alone, err).Error())
			continue
		}
		out[i] = compiled
	}
	return out
}

// spiffeID is what a SPIFFE id is (SPIFFE-ID section 2), its trust domain and the segments of its path.
var (
	spiffeID      = regexp.MustCompile(`^spiffe://[a-z0-9._-]+(/[a-zA-Z0-9._-]+)*$`)
	spiffePattern = regexp.MustCompile(`^spiffe://[a-z0-9._-]+(/([a-zA-Z0-9._-]|\*)+)*$`)
)

// parseSPIFFE makes a pattern of a SPIFFE id one that can be matched: * is one segment of the path or a part of it, ** at
// the end is what is left of it.
func parseSPIFFE(object func(field, reason string), pattern string) *regexp.Regexp {
	if len(pattern) > maxPattern || !spiffePattern.MatchString(pattern) {
		object("spiffe_uri_pattern", "is no SPIFFE id such as spiffe://example.org/ns/*/sa/*, with * for a segment of the path")
		return nil
	}
	body, rest := strings.CutSuffix(pattern, "/**")
	if strings.Contains(body, "**") {
		object("spiffe_uri_pattern", "may have ** at its end only, after a /")
		return nil
	}
	expression := strings.ReplaceAll(regexp.QuoteMeta(body), `\*`, `[a-zA-Z0-9._-]+`)
	if rest {
		expression += `(/[a-zA-Z0-9._-]+)+`
	}
	return regexp.MustCompile(`^` + expression + `$`)
}
