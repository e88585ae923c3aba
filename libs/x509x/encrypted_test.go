package x509x_test

import (
	"crypto"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/x509x"
)

func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", args, err, out)
	}
}

func TestParseEncryptedPrivateKey_ReadsWhatOpenSSLWrites(t *testing.T) {
	ec, rsaKey, ed := ecKey(t, elliptic.P384()), rsaKey(t, 2048), edKey(t)
	dir := t.TempDir()
	want := map[string]crypto.Signer{"ec": ec, "rsa": rsaKey, "ed": ed}
	for name, key := range want {
		text, err := x509x.EncodePrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const password = "s3cret passw\u00f6rd"
	tests := []struct {
		of, name string
		args     []string
		begins   string
	}{
		{"ec", "PBES2 with AES", []string{"pkcs8", "-topk8", "-v2", "aes-256-cbc"}, "ENCRYPTED PRIVATE KEY"},
		{"rsa", "PBES2 with SHA-1", []string{"pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"}, "ENCRYPTED PRIVATE KEY"},
		{"ed", "scrypt", []string{"pkcs8", "-topk8", "-scrypt"}, "ENCRYPTED PRIVATE KEY"},
		{"rsa", "PKCS #1 in the older way", []string{"rsa", "-traditional", "-aes256"}, "RSA PRIVATE KEY"},
		{"ec", "SEC 1 in the older way", []string{"ec", "-aes128"}, "EC PRIVATE KEY"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			openssl(t, dir, append(tt.args, "-in", tt.of, "-passout", "pass:"+password, "-out", "locked")...)
			text, err := os.ReadFile(filepath.Join(dir, "locked"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), tt.begins) || !strings.Contains(string(text), "ENCRYPTED") {
				t.Fatalf("openssl wrote %.60s", text)
			}
			got, err := x509x.ParseEncryptedPrivateKey(text, []byte(password))
			if err != nil || !x509x.SameKey(got.Public(), want[tt.of].Public()) {
				t.Errorf("another key came back: %v", err)
			}
			_, err = x509x.ParseEncryptedPrivateKey(text, []byte("another"))
			wantInvalid(t, err, "cannot be decrypted")
			_, err = x509x.ParsePrivateKey(text)
			wantInvalid(t, err, "encrypted; give its password")
		})
	}
}

func TestParseEncryptedPrivateKey_DoesNotSpendWhatNoHonestKeyAsksFor(t *testing.T) {
	type algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters any
	}
	for name, kdf := range map[string]algorithm{
		"iterations": {asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}, struct {
			Salt []byte
			N    int
		}{[]byte("salt"), 1 << 31}},
		"memory of scrypt": {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}, struct {
			Salt    []byte
			N, R, P int
		}{[]byte("salt"), 1 << 30, 8, 1}},
	} {
		der, err := asn1.Marshal(struct {
			A    algorithm
			Data []byte
		}{algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}, struct{ KDF, Scheme algorithm }{
			kdf, algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, make([]byte, 16)},
		}}, make([]byte, 64)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = x509x.ParseEncryptedPrivateKey(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), []byte("p"))
		if err == nil {
			t.Errorf("%s: a key came out", name)
		}
	}
}
