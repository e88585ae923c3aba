// Package scripttest sets up a CA of plain OpenSSL for tests, with the programs that operators are given to begin with.
package scripttest

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// Plain makes a folder with the programs sign, revoke and crl and the CA's files, ca.crt and ca.key.
func Plain(t testing.TB) (dir string, root *x509.Certificate) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"sign", "revoke", "crl"} {
		text, err := os.ReadFile(filepath.Join(examples(t), name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), text, 0o755)
	}
	key := catest.NewKey(t, "ECDSA P-256")
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "Plain CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	private, err := x509x.EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "ca.crt"), x509x.EncodePEM(der), 0o600)
	write(t, filepath.Join(dir, "ca.key"), private, 0o600)
	return dir, root
}

func write(t testing.TB, path string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
}

// examples finds the folder of the examples above the test.
func examples(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "deploy", "examples", "openssl-ca")
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return path
		}
	}
	t.Fatal("the examples are not there")
	return ""
}
