package x509x_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// RSA keys are slow to make and every test may share one of each size.
var rsaKeys sync.Map

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	if k, ok := rsaKeys.Load(bits); ok {
		return k.(*rsa.PrivateKey)
	}
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	rsaKeys.Store(bits, k)
	return k
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func request(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func everyName(t testing.TB) *x509.CertificateRequest {
	t.Helper()
	u, err := url.Parse("spiffe://Example.org/web")
	if err != nil {
		t.Fatal(err)
	}
	return &x509.CertificateRequest{
		Subject:        pkix.Name{CommonName: "WWW.example.com"},
		DNSNames:       []string{"www.example.com", "*.Example.com", "10.0.0.7"},
		IPAddresses:    []net.IP{net.ParseIP("10.0.0.7"), net.ParseIP("2001:DB8::1")},
		EmailAddresses: []string{"Ops@Example.com"},
		URIs:           []*url.URL{u},
	}
}

func certificate(t testing.TB, commonName string) *x509.Certificate {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7),
		Subject:      pkix.Name{CommonName: commonName},
		DNSNames:     []string{strings.ToLower(commonName)},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// wantInvalid fails the test unless err is Invalid and its message, which the client sees, contains want.
func wantInvalid(t *testing.T, err error, want string) {
	t.Helper()
	f := fault.From(err)
	if f == nil || f.Code != fault.Invalid || !strings.Contains(f.Message, want) {
		t.Errorf("err = %v, want invalid: …%s…", err, want)
	}
}

func csrPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	return x509x.EncodeCSR(request(t, key, everyName(t)))
}
