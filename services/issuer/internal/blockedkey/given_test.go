package blockedkey

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

func TestGiven_IsTheSameKeyHoweverItIsNamed(t *testing.T) {
	key := catest.NewKey(t, "RSA 2048").(*rsa.PrivateKey)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	want := HashOf(spki)
	colons := strings.ToUpper(want.String())
	for name, g := range map[string]Given{
		"a request":      {RequestPEM: catest.NewCSR(t, key, "www.example.com")},
		"a public key":   {PublicKeyPEM: text("PUBLIC KEY", spki)},
		"the older form": {PublicKeyPEM: text("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey))},
		"a hash":         {SPKISHA256: " " + want.String() + "\n"},
		"with colons":    {SPKISHA256: colons[:2] + ":" + colons[2:]},
	} {
		if got, err := g.Hash(); err != nil || got != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestGiven_SaysWhatIsWrongAndWhere(t *testing.T) {
	key := catest.NewKey(t, "ECDSA P-256")
	private, err := x509x.EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	csr := catest.NewCSR(t, key, "www.example.com")
	for name, tt := range map[string]struct {
		given       Given
		field, says string
	}{
		"nothing":             {Given{}, "spki_sha256", "name the key by it, or"},
		"two":                 {Given{RequestPEM: csr, SPKISHA256: strings.Repeat("ab", 32)}, "spki_sha256", "named already, by csr_pem"},
		"no PEM":              {Given{CertificatePEM: "x"}, "certificate_pem", "is not PEM"},
		"another thing":       {Given{CertificatePEM: csr}, "certificate_pem", "is a CERTIFICATE REQUEST, not a CERTIFICATE"},
		"a private key":       {Given{PublicKeyPEM: string(private)}, "public_key_pem", "do not send it anywhere"},
		"a private key below": {Given{RequestPEM: csr + string(private)}, "csr_pem", "holds a private key; do not send it anywhere"},
		"a short hash":        {Given{SPKISHA256: "abcd"}, "spki_sha256", "64 hexadecimal digits"},
		"a broken request":    {Given{RequestPEM: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"}, "csr_pem", "is no certificate request"},
		"a broken public key": {Given{PublicKeyPEM: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}, "public_key_pem", "is no public key"},
	} {
		_, err := tt.given.Hash()
		f := fault.From(err)
		if fault.CodeOf(err) != fault.Invalid || len(f.Fields) != 1 || f.Fields[0].Name != tt.field || !strings.Contains(f.Fields[0].Reason, tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
