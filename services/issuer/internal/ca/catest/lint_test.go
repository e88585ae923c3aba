package catest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/lint"
)

// certificate is one that is signed by a key of its own.
func certificate(t *testing.T, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key := NewKey(t, "ECDSA P-256").(*ecdsa.PrivateKey)
	c := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "www.example.com"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

// A suite that finds nothing wrong with anything would not be noticed.
func TestLints_AreOfWhatTheRFCsForbid(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"":                                     func(*x509.Certificate) {},
		"e_subject_common_name_max_length":     func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("x", 65) },
		"e_ext_key_usage_cert_sign_without_ca": func(c *x509.Certificate) { c.IsCA = false },
	} {
		found := broken(certificate(t, change).Raw)
		isIn := slices.ContainsFunc(found, func(f lint.Finding) bool { return f.Lint == name })
		if isIn != (name != "") || name == "" && len(found) > 0 {
			t.Errorf("want %q, found %v", name, found)
		}
	}
}
