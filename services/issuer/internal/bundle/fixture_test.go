package bundle_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/bundle"
)

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (p pair) pem() string { return string(x509x.EncodeCertificates(p.cert)) }

func (p pair) keyPEM(t testing.TB) string {
	t.Helper()
	text, err := x509x.EncodePrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// issue makes a certificate by a CA, or one that signs itself.
func issue(t testing.TB, by *pair, name string, ca bool) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), BasicConstraintsValid: true, IsCA: ca,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign
	} else {
		template.DNSNames = []string{name}
	}
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{cert, key}
}

// hierarchy is a root, a CA below it, and a leaf.
func hierarchy(t testing.TB, name string) (root, ca, leaf pair) {
	t.Helper()
	root = issue(t, nil, "Root", true)
	ca = issue(t, &root, "Issuing CA", true)
	return root, ca, issue(t, &ca, name, false)
}

// openssl runs openssl in a folder with files.
func openssl(t testing.TB, files map[string]string, args ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again(t, dir, args...)
	return dir
}

func again(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func fileIn(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t testing.TB, data []byte, o bundle.Options) *bundle.Content {
	t.Helper()
	c, err := bundle.Read(data, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused fails the test unless the file is refused, for a reason that contains a text.
func refused(t testing.TB, data []byte, o bundle.Options, says string) {
	t.Helper()
	_, err := bundle.Read(data, o)
	if f := fault.From(err); err == nil || f.Code != fault.Invalid || !strings.Contains(f.Message, says) {
		t.Errorf("%v, want invalid: …%s…", err, says)
	}
}

// names are the subjects of certificates.
func names(certs ...*x509.Certificate) string {
	var out []string
	for _, c := range certs {
		out = append(out, c.Subject.CommonName)
	}
	return strings.Join(out, ", ")
}

func holds(t testing.TB, l bundle.Leaf, name, chain string, key crypto.Signer) {
	t.Helper()
	if names(l.Certificate) != name || names(l.Chain...) != chain {
		t.Errorf("%s with chain %q, want %s with %q", names(l.Certificate), names(l.Chain...), name, chain)
	}
	switch {
	case key == nil && l.Key != nil:
		t.Error("a key came with it")
	case key != nil && (l.Key == nil || !x509x.SameKey(l.Key.Public(), key.Public())):
		t.Error("its key did not come with it")
	}
}

func concat(texts ...string) []byte { return []byte(strings.Join(texts, "text between\n")) }
