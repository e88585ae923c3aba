package x509x_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/certctl/certctl/libs/x509x"
)

func TestPrivateKey_SurvivesPEM(t *testing.T) {
	for name, key := range map[string]crypto.Signer{
		"EC": ecKey(t, elliptic.P384()), "RSA": rsaKey(t, 2048), "Ed25519": edKey(t),
	} {
		t.Run(name, func(t *testing.T) {
			text, err := x509x.EncodePrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(text, []byte("-----BEGIN PRIVATE KEY-----\n")) {
				t.Errorf("not PKCS #8: %.30s", text)
			}
			got, err := x509x.ParsePrivateKey(text)
			if err != nil || !x509x.SameKey(got.Public(), key.Public()) {
				t.Errorf("another key came back: %v", err)
			}
		})
	}
}

func TestParsePrivateKey_ReadsTheOlderForms(t *testing.T) {
	ec, rsaKey := ecKey(t, elliptic.P256()), rsaKey(t, 2048)
	ecDER, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	tests := map[string]struct {
		text []byte
		key  crypto.Signer
	}{
		"SEC 1 after its parameters": {append(parameters, encode("EC PRIVATE KEY", ecDER)...), ec},
		"PKCS #1":                    {encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), rsaKey},
		"beside a certificate":       {append(x509x.EncodeCertificates(certificate(t, "a.example")), encode("EC PRIVATE KEY", ecDER)...), ec},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := x509x.ParsePrivateKey(tt.text)
			if err != nil || !x509x.SameKey(got.Public(), tt.key.Public()) {
				t.Errorf("key = %v, err = %v", got, err)
			}
		})
	}
}

func TestParsePrivateKey_RefusesTheRestWithoutShowingIt(t *testing.T) {
	key, err := x509x.EncodePrivateKey(edKey(t))
	if err != nil {
		t.Fatal(err)
	}
	legacy := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("hunter2")})
	tests := map[string]struct {
		text   []byte
		reason string
	}{
		"nothing":          {nil, "no private key"},
		"only a cert":      {x509x.EncodeCertificates(certificate(t, "a.example")), "no private key"},
		"two keys":         {append(bytes.Clone(key), key...), "more than one"},
		"PKCS #8, locked":  {encode("ENCRYPTED PRIVATE KEY", []byte("hunter2")), "encrypted"},
		"PKCS #1, locked":  {legacy, "encrypted"},
		"malformed":        {encode("PRIVATE KEY", []byte("hunter2")), "malformed, or of a kind that is not accepted"},
		"of another form":  {encode("OPENSSH PRIVATE KEY", []byte("hunter2")), "OPENSSH PRIVATE KEY"},
		"that cannot sign": {encode("PRIVATE KEY", x25519(t)), "cannot sign"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := x509x.ParsePrivateKey(tt.text)
			wantInvalid(t, err, tt.reason)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("err = %v shows the key", err)
			}
		})
	}
}

func TestKeyAlgorithm_NamesAndMeasures(t *testing.T) {
	tests := []struct {
		key  crypto.PublicKey
		name string
		bits int
		ok   bool
	}{
		{ecKey(t, elliptic.P384()).Public(), x509x.ECDSA, 384, true},
		{rsaKey(t, 2048).Public(), x509x.RSA, 2048, true},
		{edKey(t).Public(), x509x.Ed25519, 256, true},
		{"a string", "", 0, false},
	}
	for _, tt := range tests {
		if name, bits, ok := x509x.KeyAlgorithm(tt.key); name != tt.name || bits != tt.bits || ok != tt.ok {
			t.Errorf("KeyAlgorithm = %s, %d, %v; want %s, %d, %v", name, bits, ok, tt.name, tt.bits, tt.ok)
		}
	}
}

func TestCheckKey_RefusesOddRSAKeys(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), 16383)
	wantInvalid(t, x509x.CheckKey(&rsa.PublicKey{N: n, E: 65537}), "16384 bits")
	n = new(big.Int).Lsh(big.NewInt(1), 2047)
	wantInvalid(t, x509x.CheckKey(&rsa.PublicKey{N: n, E: 1}), "exponent 1")
	wantInvalid(t, x509x.CheckKey(nil), "kind")
}

func TestSameKey_TellsKeysApart(t *testing.T) {
	a, b := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P256())
	if !x509x.SameKey(a.Public(), a.Public()) || x509x.SameKey(a.Public(), b.Public()) || x509x.SameKey(nil, nil) {
		t.Error("SameKey is wrong")
	}
}

func FuzzParsePrivateKey(f *testing.F) {
	for _, key := range []crypto.Signer{ecKey(f, elliptic.P256()), edKey(f)} {
		text, err := x509x.EncodePrivateKey(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := x509x.ParsePrivateKey(text)
		if err != nil {
			wantInvalid(t, err, "")
			return
		}
		if key.Public() == nil {
			t.Error("a key without a public half")
		}
	})
}

func encode(blockType string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
}

func x25519(t *testing.T) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
