// Package local is the CA that lives in the issuer's own process. It signs with a root of its own making, as a CA below
// another Local CA or below a root elsewhere that signed its request, or with the certificate and key that an operator gave
// it.
//
// A root of its own is made once, at the first start, and then kept for good in the database, its key sealed: were it
// made again, every certificate issued before would be orphaned. When the key cannot be unsealed the CA does not open.
//
// A leaf has a random serial number of 128 bits and begins five minutes ago, for the sake of hosts whose clocks are slow.
// It never outlives the CA, nor those above it. A short-lived one says by noRevAvail that it points to no CRL and no OCSP.
// Its subject is the common name, or nothing if that is longer than the 64 characters of X.520; all names are alternative
// names. Of the request only the key is used. Names that the CA, or one above it, must not issue for are refused.
//
// A CA can be given another key while the one before goes on answering for what it issued; see Succeed.
package local

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

const (
	// DefaultLifetime is that of a leaf, unless it is to be shorter.
	DefaultLifetime   = registry.LocalLifetime
	backdate          = 5 * time.Minute
	responderLifetime = 7 * 24 * time.Hour
	// X.520's upper bound of a common name.
	maxCommonName = 64
)

// noRevAvail tells that no revocation is told of (RFC 9608 section 2).
var noRevAvail = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 56}, Value: asn1.NullBytes}

// Authority is a CA with its key in this process. It is safe for concurrent use.
type Authority struct {
	chain []*x509.Certificate
	key   crypto.Signer
	clock clock.Clock
	// lifetime of what is issued, unless the request asks for less or more.
	lifetime time.Duration
	above    []byte // the PEM of the issuers below the root
	// ends is when the first certificate of the chain does, and nothing that is issued holds longer.
	ends        time.Time
	constrained bool
	cross       []*x509.Certificate
	// keyID is that of the key, named on what it issues if it is not the issuer's first.
	keyID, named string
	// token is where the key is; nil if it is here.
	token    Token
	siblings map[string]func() (*Authority, error)
	crl      []string
	ocsp     []string
	ca       []string
	// standIn signs drafts.
	standIn func() (crypto.Signer, error)
}

// Places are the URLs that certificates point relying parties to. Empty ones are left out.
type Places struct {
	CRL, OCSP, CA string
}

// PlacesAt are the places of a key, by what stands for it, under certctl's public URL, none if that is empty.
func PlacesAt(publicURL, place string) Places {
	if publicURL == "" {
		return Places{}
	}
	base := strings.TrimSuffix(publicURL, "/") + "/api/v1/"
	return Places{CRL: base + "crl/" + place, OCSP: base + "ocsp/" + place, CA: base + "ca/" + place + "/certificate"}
}

// New returns the CA of a chain, root last, whose first certificate's key is given. It does not check that they fit;
// see OpenRoot and OpenFiles.
func New(chain []*x509.Certificate, key crypto.Signer, p Places, c clock.Clock) *Authority {
	a := &Authority{
		chain: chain, key: key, clock: c, lifetime: DefaultLifetime, crl: list(p.CRL), ocsp: list(p.OCSP), ca: list(p.CA),
		ends: Ends(chain), constrained: slices.ContainsFunc(chain, constrained),
	}
	if !a.SignsCRLs() {
		// Whoever looks for a list takes one that is not there for a reason to refuse. OCSP says what is revoked.
		a.crl = nil
	}
	a.standIn = sync.OnceValues(func() (crypto.Signer, error) { return newStandIn(key.Public()) })
	for _, cert := range chain {
		if !selfSigned(cert) {
			a.above = append(a.above, x509x.EncodePEM(cert.Raw)...)
		}
	}
	return a
}

// Ends is when the first certificate of a chain ends: what hangs on the chain holds no longer.
func Ends(chain []*x509.Certificate) time.Time {
	ends := chain[0].NotAfter
	for _, cert := range chain[1:] {
		if cert.NotAfter.Before(ends) {
			ends = cert.NotAfter
		}
	}
	return ends
}

func list(url string) []string {
	if url == "" {
		return nil
	}
	return []string{url}
}

func selfSigned(cert *x509.Certificate) bool {
	return string(cert.RawIssuer) == string(cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil
}

// Lasting is the same CA whose leaves have another lifetime.
func (a *Authority) Lasting(lifetime time.Duration) *Authority {
	b := *a
	b.lifetime = lifetime
	return &b
}

// WithKey implements [ca.Keyed].
func (a *Authority) WithKey(keyID string) (ca.Issuer, error) {
	if keyID == a.keyID {
		return a.issuer(), nil
	}
	open, ok := a.siblings[keyID]
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no CA key %s", keyID)
	}
	sibling, err := open()
	if err != nil {
		return nil, err
	}
	return sibling.issuer(), nil
}

// issuer is the CA as it is shown: one with its key in a token is not in process.
func (a *Authority) issuer() ca.Issuer {
	if a.token != nil {
		return Remote{a}
	}
	return a
}

// InProcess implements [ca.InProcess]. [Remote] does not.
func (a *Authority) InProcess() {}

// Chain implements [ca.Issuer].
func (a *Authority) Chain() []*x509.Certificate { return a.chain }

// Issue implements [ca.Issuer].
func (a *Authority) Issue(_ context.Context, r ca.Request) (ca.Issued, error) {
	template, err := a.leaf(r)
	if err != nil {
		return ca.Issued{}, err
	}
	return a.sign(template, r.CSR.PublicKey)
}

// leaf is the certificate that is issued for a request, but for its signature.
func (a *Authority) leaf(r ca.Request) (*x509.Certificate, error) {
	lifetime := a.lifetime
	if r.Lifetime > 0 {
		lifetime = min(lifetime, r.Lifetime)
	}
	if a.constrained {
		if err := admit(a.chain, r.Names); err != nil {
			return nil, err
		}
	}
	template, err := a.template(r.CSR, lifetime)
	if err != nil {
		return nil, err
	}
	// OpenSSL takes the common name of a certificate without host names for one, and holds it to the CA's DNS constraints,
	// be it an address.
	hostless := !slices.ContainsFunc(r.Names, func(n x509x.Name) bool { return n.Kind == x509x.DNS })
	if len(r.CommonName) <= maxCommonName && (!a.constrained || !hostless) {
		template.Subject = pkix.Name{CommonName: r.CommonName}
	}
	for _, n := range r.Names {
		switch n.Kind {
		case x509x.DNS:
			template.DNSNames = append(template.DNSNames, n.Value)
		case x509x.IP:
			template.IPAddresses = append(template.IPAddresses, net.ParseIP(n.Value))
		case x509x.URI:
			uri, err := url.Parse(n.Value)
			if err != nil {
				return nil, fault.Wrap(err, fault.Invalid, "%s is no URI", n.Value)
			}
			template.URIs = append(template.URIs, uri)
		default:
			return nil, fault.New(fault.Invalid, "the Local CA issues for host names, addresses and URIs, not for %s", n.Value)
		}
	}
	template.ExtKeyUsage = r.Usages
	if r.Usages == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	if enciphers(r.CSR.PublicKey, template.ExtKeyUsage) {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if r.ShortLived {
		template.ExtraExtensions = append(template.ExtraExtensions, noRevAvail)
	} else {
		template.CRLDistributionPoints, template.OCSPServer = a.crl, a.ocsp
	}
	return template, nil
}

// template is what every certificate that this CA issues has in common.
func (a *Authority) template(csr *x509.CertificateRequest, lifetime time.Duration) (*x509.Certificate, error) {
	now, issuer := a.clock.Now(), a.chain[0]
	notAfter := now.Add(lifetime).Truncate(time.Second)
	if notAfter.After(a.ends) {
		notAfter = a.ends
	}
	notBefore := now.Add(-backdate).Truncate(time.Second)
	if notBefore.Before(issuer.NotBefore) {
		notBefore = issuer.NotBefore
	}
	if !notAfter.After(now) {
		return nil, fault.New(fault.Unavailable, "the CA's own certificate, or one above it, expired on %s", a.ends.Format(time.RFC3339))
	}
	ski, err := keyID(csr.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          x509x.NewSerial(),
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		SubjectKeyId:          ski,
		// crypto/x509 would leave it out of a leaf that bears the CA's own name.
		AuthorityKeyId:        issuer.SubjectKeyId,
		IssuingCertificateURL: a.ca,
	}
	return t, nil
}

// enciphers reports whether a key may encipher others: one of RSA, for a usage that this is consistent with (RFC 5280
// section 4.2.1.12).
func enciphers(pub crypto.PublicKey, usages []x509.ExtKeyUsage) bool {
	_, isRSA := pub.(*rsa.PublicKey)
	return isRSA && (slices.Contains(usages, x509.ExtKeyUsageServerAuth) || slices.Contains(usages, x509.ExtKeyUsageEmailProtection))
}

func (a *Authority) sign(template *x509.Certificate, pub crypto.PublicKey) (ca.Issued, error) {
	template.SignatureAlgorithm = signatureAlgorithm(a.key.Public())
	der, err := x509.CreateCertificate(rand.Reader, template, a.chain[0], pub, a.key)
	if err != nil {
		return ca.Issued{}, signing(err, fault.Internal, "the certificate could not be signed")
	}
	served := append(x509x.EncodePEM(der), a.above...)
	for _, cert := range a.cross {
		// Past its end it vouches for nothing, and some verifiers would stop at it.
		if a.clock.Now().Before(cert.NotAfter) {
			served = append(served, x509x.EncodePEM(cert.Raw)...)
		}
	}
	return ca.Issued{
		DER: der, Serial: template.SerialNumber, NotBefore: template.NotBefore, NotAfter: template.NotAfter,
		// A renewal would be cut short too, until the CA has a certificate that holds longer.
		ChainPEM: served, KeyID: a.named, EndsWithCA: template.NotAfter.Equal(a.ends),
		AuthorityKeyID: a.chain[0].SubjectKeyId,
	}, nil
}

// signing codes the error of a signature, unless the key's keeper has done so.
func signing(err error, code fault.Code, what string) error {
	if _, coded := errors.AsType[*fault.Error](err); coded {
		return err
	}
	return fault.Wrap(err, code, "%s", what)
}

// signatureAlgorithm fits the hash to the strength of the CA's key; for other keys it is crypto/x509's choice.
func signatureAlgorithm(pub crypto.PublicKey) x509.SignatureAlgorithm {
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return x509.UnknownSignatureAlgorithm
	}
	switch bits := k.Curve.Params().BitSize; {
	case bits > 384:
		return x509.ECDSAWithSHA512
	case bits > 256:
		return x509.ECDSAWithSHA384
	default:
		return x509.ECDSAWithSHA256
	}
}

// keyID is a subject key identifier by RFC 7093 section 2, method 1: the leftmost 160 bits of the SHA-256 of the key.
func keyID(spki []byte) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the public key is malformed")
	}
	sum := sha256.Sum256(info.Key.RightAlign())
	return sum[:20], nil
}
