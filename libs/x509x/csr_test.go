package x509x_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/x509x"
)

func TestParseCSR_AcceptsStrongKeys(t *testing.T) {
	keys := map[string]crypto.Signer{
		"P-256":    ecKey(t, elliptic.P256()),
		"P-384":    ecKey(t, elliptic.P384()),
		"P-521":    ecKey(t, elliptic.P521()),
		"RSA 2048": rsaKey(t, 2048),
		"Ed25519":  edKey(t),
	}
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			csr, err := x509x.ParseCSR(csrPEM(t, key))
			if err != nil {
				t.Fatal(err)
			}
			if !x509x.SameKey(csr.PublicKey, key.Public()) {
				t.Error("another key came out")
			}
		})
	}
}

func TestParseCSR_AcceptsHowOthersWriteIt(t *testing.T) {
	text := string(csrPEM(t, ecKey(t, elliptic.P256())))
	for name, variant := range map[string]string{
		"CRLF":      strings.ReplaceAll(text, "\n", "\r\n"),
		"old label": strings.ReplaceAll(text, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
		"newlines":  "\n\n" + text + "\n\n",
		"preamble":  "Certificate Request:\n    Data:\n" + text,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := x509x.ParseCSR([]byte(variant)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseCSR_RefusesWeakKeys(t *testing.T) {
	tests := map[string]struct {
		key    crypto.Signer
		reason string
	}{
		"RSA 1024": {rsaKey(t, 1024), "1024 bits; 2048 to 8192 are accepted"},
		"P-224":    {ecKey(t, elliptic.P224()), "curve P-224 is not accepted"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := x509x.ParseCSR(csrPEM(t, tt.key))
			wantInvalid(t, err, tt.reason)
		})
	}
}

func TestParseCSR_RefusesASignatureThatIsNotItsOwn(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	block, _ := pem.Decode(csrPEM(t, key))

	altered := bytes.Replace(block.Bytes, []byte("www.example.com"), []byte("www.evil.test.x"), 1)
	_, err := x509x.ParseCSRDER(altered)
	wantInvalid(t, err, "not signed by its own key")

	other := ecKey(t, elliptic.P256())
	swapped := bytes.Replace(block.Bytes, publicBytes(t, key), publicBytes(t, other), 1)
	_, err = x509x.ParseCSRDER(swapped)
	wantInvalid(t, err, "not signed by its own key")
}

func publicBytes(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseCSR_RefusesSHA1(t *testing.T) {
	der := request(t, rsaKey(t, 2048), everyName(t))
	sha256WithRSA, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11})
	if err != nil {
		t.Fatal(err)
	}
	sha1WithRSA, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5})
	if err != nil {
		t.Fatal(err)
	}
	_, err = x509x.ParseCSRDER(bytes.Replace(der, sha256WithRSA, sha1WithRSA, 1))
	wantInvalid(t, err, "signed with SHA1-RSA")
}

func TestParseCSR_RefusesAKeyOfUnknownKind(t *testing.T) {
	der := request(t, edKey(t), everyName(t))
	ed25519, ed448 := []byte{0x06, 0x03, 0x2b, 0x65, 0x70}, []byte{0x06, 0x03, 0x2b, 0x65, 0x71}
	_, err := x509x.ParseCSRDER(bytes.Replace(der, ed25519, ed448, 1))
	wantInvalid(t, err, "of a kind that is not accepted")
}

func TestParseCSR_SaysThatACurveIsNotAccepted(t *testing.T) {
	der := request(t, ecKey(t, elliptic.P256()), everyName(t))
	// The names of P-256 and of a curve of the same length that Go does not know.
	p256, unknown := []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x06}
	_, err := x509x.ParseCSRDER(bytes.Replace(der, p256, unknown, 1))
	wantInvalid(t, err, "curve is not accepted")
}

func TestParseCSR_RefusesWhatIsNoRequest(t *testing.T) {
	good := csrPEM(t, ecKey(t, elliptic.P256()))
	key, err := x509x.EncodePrivateKey(ecKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		text   []byte
		reason string
	}{
		"empty":        {nil, "not in PEM"},
		"header only":  {[]byte("-----BEGIN CERTIFICATE REQUEST-----"), "not in PEM"},
		"garbage":      {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("x")}), "malformed"},
		"certificate":  {x509x.EncodePEM(certificate(t, "a.example").Raw), `of the form "CERTIFICATE"`},
		"private key":  {key, "this is a private key"},
		"two requests": {append(bytes.Clone(good), good...), "followed by something else"},
		"too large":    {bytes.Repeat([]byte("x"), 65<<10), "larger than 65536 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := x509x.ParseCSR(tt.text)
			wantInvalid(t, err, tt.reason)
		})
	}
}

func FuzzParseCSR(f *testing.F) {
	f.Add(csrPEM(f, ecKey(f, elliptic.P256())))
	f.Add(csrPEM(f, edKey(f)))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		csr, err := x509x.ParseCSR(text)
		if err != nil {
			wantInvalid(t, err, "")
			return
		}
		if err := csr.CheckSignature(); err != nil {
			t.Errorf("accepted with a bad signature: %v", err)
		}
		names := x509x.RequestNames(csr)
		if again, err := x509x.ParseCSR(x509x.EncodeCSR(csr.Raw)); err != nil || !x509x.RequestNames(again).Equal(names) {
			t.Errorf("encoded anew it reads otherwise: %v", err)
		}
	})
}
