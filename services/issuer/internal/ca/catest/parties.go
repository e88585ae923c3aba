package catest

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// The purposes of certificates, as GnuTLS is told of them.
const (
	serverPurpose = "1.3.6.1.5.5.7.3.1"
	ocspPurpose   = "1.3.6.1.5.5.7.3.9"
)

// pemFile writes certificates to a file of a folder.
func pemFile(t *testing.T, dir, name string, certs ...*x509.Certificate) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, x509x.EncodeCertificates(certs...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// top is the last certificate of the CA's chain.
func top(issuer ca.Issuer) *x509.Certificate {
	above := issuer.Chain()
	return above[len(above)-1]
}

// verifyOpenSSL builds a path with the openssl command, strictly.
func verifyOpenSSL(t *testing.T, issuer ca.Issuer, certs []*x509.Certificate, purpose string) {
	t.Helper()
	dir := t.TempDir()
	args := []string{
		"verify", "-x509_strict", "-check_ss_sig", "-partial_chain", "-purpose", purpose,
		"-CAfile", pemFile(t, dir, "root.pem", top(issuer)),
	}
	if len(certs) > 1 {
		args = append(args, "-untrusted", pemFile(t, dir, "between.pem", certs[1:]...))
	}
	out, err := exec.CommandContext(t.Context(), "openssl", append(args, pemFile(t, dir, "leaf.pem", certs[0]))...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "leaf.pem: OK") {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}

// verifyGnuTLS does the same with GnuTLS's certtool.
func verifyGnuTLS(t *testing.T, issuer ca.Issuer, certs []*x509.Certificate, purpose string) {
	t.Helper()
	if out, ok := gnuTLS(t, top(issuer), certs, purpose); !ok {
		t.Errorf("GnuTLS: %s", out)
	}
}

// gnuTLS returns what certtool says of a chain, and whether it is trusted.
func gnuTLS(t *testing.T, root *x509.Certificate, certs []*x509.Certificate, purpose string) (string, bool) {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), Certtool(t), "--verify", "--verify-purpose="+purpose,
		"--load-ca-certificate="+pemFile(t, dir, "root.pem", root), "--infile="+pemFile(t, dir, "chain.pem", certs...)).CombinedOutput()
	return string(out), err == nil && strings.Contains(string(out), "Verified. The certificate is trusted")
}

// Certtool finds GnuTLS's certtool on PATH, else where make peers has put it.
func Certtool(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("certtool"); err == nil {
		return path
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".peers", "bin", "certtool")
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path
		}
	}
	t.Fatal("certtool is not there; make peers fetches it")
	return ""
}
