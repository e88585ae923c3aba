package catest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/relyingparty"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

func chain(t *testing.T, issuer ca.Issuer, b Bounds) {
	certs := issuer.Chain()
	if len(certs) == 0 {
		t.Fatal("the CA has no certificate")
	}
	for i, c := range certs {
		if !c.IsCA {
			t.Errorf("%s is no CA", c.Subject)
		}
		lints(t, c, b)
		if i+1 < len(certs) {
			if err := c.CheckSignatureFrom(certs[i+1]); err != nil {
				t.Errorf("%s: %v", c.Subject, err)
			}
		}
	}
}

func issues(t *testing.T, issuer ca.Issuer, key crypto.Signer, b Bounds) {
	issued, certs := issue(t, issuer, NewRequest(t, key, b.Names...), b)
	leaf := certs[0]

	if !bytes.Equal(leaf.Raw, issued.DER) {
		t.Error("the chain does not begin with the leaf")
	}
	if leaf.SerialNumber.Cmp(issued.Serial) != 0 || !leaf.NotBefore.Equal(issued.NotBefore) || !leaf.NotAfter.Equal(issued.NotAfter) ||
		!bytes.Equal(leaf.AuthorityKeyId, issued.AuthorityKeyID) {
		t.Error("what is said of the leaf is not what it holds")
	}
	if !x509x.SameKey(leaf.PublicKey, key.Public()) {
		t.Error("the leaf is for another key")
	}
	want, err := x509x.ParseNames(b.Names[0], b.Names)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, x509x.CertificateNames(leaf)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if len(leaf.IPAddresses) != len(want.Values(x509x.IP)) || len(leaf.DNSNames) != len(want.Values(x509x.DNS)) {
		t.Errorf("addresses %v, host names %v", leaf.IPAddresses, leaf.DNSNames)
	}
	checkLeaf(t, issuer, leaf)
	if !b.OwnTemplate {
		checkTemplate(t, leaf, key)
	}
	for _, c := range certs[1:] {
		// A certificate by an older key of the same CA bears its name twice and is no root.
		if bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil {
			t.Error("the chain holds the root")
		}
	}
	verify(t, issuer, certs, x509.ExtKeyUsageServerAuth)
	relies(t, relyingparty.OpenSSL, issuer, certs, x509.ExtKeyUsageServerAuth)
	if !b.OwnTemplate {
		verify(t, issuer, certs, x509.ExtKeyUsageClientAuth)
		relies(t, relyingparty.OpenSSL, issuer, certs, x509.ExtKeyUsageClientAuth)
	}
}

func refuses(t *testing.T, issuer ca.Issuer, key crypto.Signer) {
	if _, err := Await(t, issuer, NewRequest(t, key, "www.example.com")); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
}

// checkTemplate holds a leaf against what a CA issues that does as it is told.
func checkTemplate(t *testing.T, leaf *x509.Certificate, key crypto.Signer) {
	t.Helper()
	// A key of RSA may encipher as well as sign, others never (RFC 8813, RFC 8410). Some CAs have one usage for all keys.
	may := x509.KeyUsageDigitalSignature
	if _, isRSA := key.(*rsa.PrivateKey); isRSA {
		may |= x509.KeyUsageKeyEncipherment
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || leaf.KeyUsage&^may != 0 {
		t.Errorf("key usage = %b, want %b", leaf.KeyUsage, may)
	}
	if len(leaf.SubjectKeyId) != 20 {
		t.Errorf("subject key id %x", leaf.SubjectKeyId)
	}
	if age := time.Since(leaf.NotBefore); age < 4*time.Minute || age > time.Hour {
		t.Errorf("valid from %s before now", age)
	}
}

func checkLeaf(t *testing.T, issuer ca.Issuer, leaf *x509.Certificate) {
	t.Helper()
	if leaf.IsCA {
		t.Error("the leaf is a CA")
	}
	above := issuer.Chain()[0]
	if !bytes.Equal(leaf.AuthorityKeyId, above.SubjectKeyId) {
		t.Errorf("authority key id %x, want %x", leaf.AuthorityKeyId, above.SubjectKeyId)
	}
	now := time.Now()
	if !leaf.NotAfter.After(now) || leaf.NotAfter.After(above.NotAfter) {
		t.Errorf("valid until %s, the CA until %s", leaf.NotAfter, above.NotAfter)
	}
	for _, urls := range [][]string{leaf.CRLDistributionPoints, leaf.OCSPServer, leaf.IssuingCertificateURL} {
		if len(urls) > 1 || len(urls) == 1 && !strings.HasPrefix(urls[0], "http") {
			t.Errorf("places %v", urls)
		}
	}
}

func serials(t *testing.T, issuer ca.Issuer, b Bounds) {
	key := NewKey(t, "ECDSA P-256")
	seen := map[string]bool{}
	widest := 0
	for range 8 {
		issued, _ := issue(t, issuer, NewRequest(t, key, "www.example.com"), b)
		seen[issued.Serial.String()] = true
		widest = max(widest, issued.Serial.BitLen())
		if issued.Serial.Sign() <= 0 || issued.Serial.BitLen() > 159 {
			t.Errorf("serial number %x", issued.Serial)
		}
	}
	if len(seen) != 8 || widest < 64 && !b.OwnTemplate {
		t.Errorf("%d serial numbers of 8, the longest of %d bits", len(seen), widest)
	}
}

// longName sees that a name too long for a subject is left out of it, or refused.
func longName(t *testing.T, issuer ca.Issuer, b Bounds) {
	name := strings.Repeat("long.", 12) + "example.com"
	key := NewKey(t, "ECDSA P-256")
	r := NewRequest(t, key, name)
	// As agents make it: a name that is too long for a subject stands among the alternative names only.
	csr, err := x509x.ParseCSR([]byte(NewCSR(t, key, "", name)))
	if err != nil {
		t.Fatal(err)
	}
	r.CSR = csr
	if _, err := Await(t, issuer, r); fault.CodeOf(err) == fault.Invalid {
		return
	}
	_, certs := issue(t, issuer, r, b)
	if cn := certs[0].Subject.CommonName; cn != "" {
		t.Errorf("common name %q has %d characters", cn, len(cn))
	}
	san := slices.IndexFunc(certs[0].Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17})
	})
	if san < 0 || !certs[0].Extensions[san].Critical {
		t.Error("without a subject the alternative names must be critical (RFC 5280 section 4.1.2.6)")
	}
	if err := certs[0].VerifyHostname(name); err != nil {
		t.Error(err)
	}
	relies(t, relyingparty.OpenSSL, issuer, certs, x509.ExtKeyUsageServerAuth)
}

func ignoresExtensions(t *testing.T, issuer ca.Issuer, b Bounds) {
	key := NewKey(t, "ECDSA P-256")
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "www.example.com", Organization: []string{"Somebody Else"}},
		DNSNames: []string{"www.example.com"},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}},
		},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRequest(t, key, "www.example.com")
	if r.CSR, err = x509x.ParseCSRDER(der); err != nil {
		t.Fatal(err)
	}
	_, certs := issue(t, issuer, r, b)
	if certs[0].IsCA || slices.Contains(certs[0].Subject.Organization, "Somebody Else") {
		t.Errorf("the request made its own certificate: CA %v, subject %s", certs[0].IsCA, certs[0].Subject)
	}
}
