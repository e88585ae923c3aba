package targettest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/agent/internal/target"
)

// Authority signs the certificates of a test.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority makes one.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "Test CA"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = a.sign(template, template, a.key.Public())
	return a
}

// Sign returns the chain of a new certificate for a public key: the leaf and its
// issuer.
func (a *Authority) Sign(public crypto.PublicKey, names ...string) []*x509.Certificate {
	a.t.Helper()
	leaf := a.sign(&x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(30 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, public)
	return []*x509.Certificate{leaf, a.cert}
}

// Bundle returns a new certificate with a new key.
func (a *Authority) Bundle(names ...string) target.Bundle {
	a.t.Helper()
	key := newKey(a.t)
	text, err := x509x.EncodePrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	chain := a.Sign(key.Public(), names...)
	return target.Bundle{Chain: chain, KeyPEM: text, Fingerprint: x509x.Fingerprint(chain[0].Raw)}
}

func (a *Authority) sign(template, issuer *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
