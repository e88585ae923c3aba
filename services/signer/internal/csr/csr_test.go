package csr_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/services/signer/internal/csr"
)

// TestMake_AsksForACertificateOfACA has OpenSSL sign the request as the how-to says, with what it asks for.
func TestMake_AsksForACertificateOfACA(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := csr.Make(key, "Example Web CA", "Example")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "web-ca.csr"), request, 0o600); err != nil {
		t.Fatal(err)
	}
	openssl := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "root.key", "-subj", "/CN=Root", "-out", "root.pem")
	openssl("x509", "-req", "-in", "web-ca.csr", "-CA", "root.pem", "-CAkey", "root.key", "-copy_extensions", "copyall", "-out", "web-ca.pem")
	text := openssl("x509", "-in", "web-ca.pem", "-noout", "-text")
	for _, want := range []string{"O = Example, CN = Example Web CA", "CA:TRUE", "Certificate Sign, CRL Sign"} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
}
