package app_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// offlineRoot is a root that is kept elsewhere.
type offlineRoot struct {
	cert *x509.Certificate
	key  crypto.Signer
	text string
}

func newOfflineRoot(t *testing.T) *offlineRoot {
	t.Helper()
	r := &offlineRoot{key: catest.NewKey(t, ecdsa)}
	r.cert = r.certify(t, caTemplate("Offline Root", 365*24*time.Hour), nil, r.key.Public())
	r.text = string(x509x.EncodeCertificates(r.cert))
	return r
}

func caTemplate(name string, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().AddDate(-2, 0, 0),
		NotAfter: time.Now().Add(life), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func (r *offlineRoot) certify(t *testing.T, template, parent *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, r.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sign certifies what a request asks for, as a CA.
func (r *offlineRoot) sign(t *testing.T, request string) string {
	t.Helper()
	csr, err := x509x.ParseCSR([]byte(request))
	if err != nil {
		t.Fatal(err)
	}
	template := caTemplate(csr.Subject.CommonName, 200*24*time.Hour)
	template.MaxPathLenZero = true
	return string(x509x.EncodeCertificates(r.certify(t, template, r.cert, csr.PublicKey)))
}

// endingCA is a CA that is two years old and ends in a while, with its key.
func endingCA(t *testing.T, life time.Duration) (cert, key string) {
	t.Helper()
	r := &offlineRoot{key: catest.NewKey(t, ecdsa)}
	text, err := x509x.EncodePrivateKey(r.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(x509x.EncodeCertificates(r.certify(t, caTemplate("Ending", life), nil, r.key.Public()))), string(text)
}
