// Package catest is what every CA must do, whatever stands behind it: a suite that each connector's tests run against
// its real server. It verifies what was issued with crypto/x509, with the openssl command and with GnuTLS's, because relying
// parties read certificates with more than one parser, and lints it by the RFCs, because some are stricter than these.
//
// Objections holds to the same parties what a whole issuer has issued in a test of any kind.
//
// Capabilities that a CA does not have are not asked for; those that it has are held to the same suite. Which checks
// each connector has passed is written down in its testdata, and shown in docs/operations/conformance.gen.md.
package catest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"slices"
	"testing"

	"github.com/certctl/certctl/libs/testkit/relyingparty"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// Bounds are what the suite does not ask of a CA that settles it by rules of its own. The zero value asks for all.
type Bounds struct {
	// Names are those that it can be asked for, a host name first; nil are host names, a wildcard and addresses.
	Names []string
	// Keys are the kinds of keys that it takes; nil are all of the suite's. Any other it must refuse as Invalid.
	Keys []string
	// Orders tells how many orders the CA has taken, if that can be told; nil if not.
	Orders func() int
	// Lints are those that its certificates do not pass, each with the reason why that is so and stays so.
	Lints map[string]string
	// OwnTemplate tells that key usages, purposes besides that of a server, key identifiers, backdating and the length of
	// serial numbers are the CA's alone.
	OwnTemplate bool
	// NoAdvice tells that the CA does not say when to renew, though others that are asked in the same way do.
	NoAdvice bool
}

// Run runs the suite.
func Run(t *testing.T, issuer ca.Issuer) {
	t.Helper()
	RunWithin(t, issuer, Bounds{})
}

// RunWithin runs the suite within a CA's bounds.
func RunWithin(t *testing.T, issuer ca.Issuer, b Bounds) {
	t.Helper()
	run(t, issuer, b)
}

func run(t *testing.T, issuer ca.Issuer, b Bounds) (s suite) {
	t.Helper()
	if b.Names == nil {
		b.Names = []string{"www.example.com", "*.example.com", "192.0.2.7", "2001:db8::1"}
	}
	s.check(t, "chain", true, func(t *testing.T) { chain(t, issuer, b) })
	for _, kind := range []string{"ECDSA P-256", "ECDSA P-384", "RSA 2048", "Ed25519"} {
		takes := b.Keys == nil || slices.Contains(b.Keys, kind)
		s.check(t, "issues for "+kind, takes, func(t *testing.T) { issues(t, issuer, NewKey(t, kind), b) })
		if !takes {
			t.Run("refuses "+kind, func(t *testing.T) { refuses(t, issuer, NewKey(t, kind)) })
		}
	}
	s.check(t, "renews with another key", true, func(t *testing.T) { renews(t, issuer, b) })
	s.check(t, "serials are random", true, func(t *testing.T) { serials(t, issuer, b) })
	s.check(t, "long common name", true, func(t *testing.T) { longName(t, issuer, b) })
	s.check(t, "only the key of the request counts", true, func(t *testing.T) { ignoresExtensions(t, issuer, b) })
	revoker, can := issuer.(ca.Revoker)
	s.check(t, "revokes, and bears a repetition", can, func(t *testing.T) { revokes(t, issuer, revoker, b) })
	lists, can := issuer.(ca.CRLSigner)
	s.check(t, "signs revocation lists", can && lists.SignsCRLs(), func(t *testing.T) { revocationList(t, issuer, lists) })
	responders, can := issuer.(ca.OCSPResponderIssuer)
	s.check(t, "issues for an OCSP responder", can, func(t *testing.T) { responder(t, issuer, responders, b) })
	takesTime := asynchronous(t, issuer, b)
	adviser, can := issuer.(ca.RenewalAdviser)
	s.check(t, "says when to renew", can && !b.NoAdvice, func(t *testing.T) { advises(t, issuer, adviser, b) })
	s.check(t, "asynchronous orders", takesTime, func(t *testing.T) { asksAgain(t, issuer, b) })
	s.check(t, "an order is gone on with after a crash", takesTime, func(t *testing.T) { survivesCrashes(t, issuer, b) })
	return s
}

// NewKey makes a key of a kind: "ECDSA P-256", "ECDSA P-384", "RSA 2048", "RSA 1024" or "Ed25519".
func NewKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ECDSA P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSA P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "RSA 2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no kind of key is called %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// NewCSR makes a request in PEM for a key, a common name, and names that are hosts or addresses.
func NewCSR(t testing.TB, key crypto.Signer, commonName string, names ...string) string {
	t.Helper()
	request := &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			request.IPAddresses = append(request.IPAddresses, ip)
		} else {
			request.DNSNames = append(request.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(x509x.EncodeCSR(der))
}

// NewRequest makes a verified request for a key and names.
func NewRequest(t testing.TB, key crypto.Signer, names ...string) ca.Request {
	t.Helper()
	csr, err := x509x.ParseCSR([]byte(NewCSR(t, key, names[0], names...)))
	if err != nil {
		t.Fatal(err)
	}
	set, err := x509x.ParseNames(names[0], names)
	if err != nil {
		t.Fatal(err)
	}
	return ca.Request{CSR: csr, CommonName: names[0], Names: set}
}

// issue issues and parses the chain, leaf first. Whatever is issued has to be linted, and verified by GnuTLS.
func issue(t *testing.T, issuer ca.Issuer, r ca.Request, b Bounds) (ca.Issued, []*x509.Certificate) {
	t.Helper()
	issued, err := Await(t, issuer, r)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := x509x.ParseCertificates(issued.ChainPEM)
	if err != nil {
		t.Fatal(err)
	}
	lints(t, certs[0], b)
	relies(t, relyingparty.GnuTLS, issuer, certs, x509.ExtKeyUsageServerAuth)
	return issued, certs
}

// verify builds a path with crypto/x509 from the leaf to the top of the CA's chain.
func verify(t *testing.T, issuer ca.Issuer, certs []*x509.Certificate, usage x509.ExtKeyUsage) {
	t.Helper()
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	above := issuer.Chain()
	roots.AddCert(above[len(above)-1])
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		t.Errorf("crypto/x509: %v", err)
	}
}
