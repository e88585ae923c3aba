package x509x_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/x509x"
)

func TestParseCertificates_KeepsTheOrder(t *testing.T) {
	leaf, inter, root := certificate(t, "leaf.example"), certificate(t, "inter"), certificate(t, "root")
	text := append([]byte("leaf first\n"), x509x.EncodeCertificates(leaf, inter, root)...)
	got, err := x509x.ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range got {
		names = append(names, c.Subject.CommonName)
	}
	if diff := cmp.Diff([]string{"leaf.example", "inter", "root"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseCertificates_RefusesAnythingElse(t *testing.T) {
	cert := x509x.EncodeCertificates(certificate(t, "a.example"))
	key, err := x509x.EncodePrivateKey(ecKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		text   []byte
		reason string
	}{
		"nothing":     {nil, "no certificate"},
		"private key": {append(bytes.Clone(cert), key...), "private key"},
		"request":     {csrPEM(t, edKey(t)), "CERTIFICATE REQUEST"},
		"second bad":  {append(bytes.Clone(cert), x509x.EncodePEM([]byte("x"))...), "certificate 2 is malformed"},
		"too large":   {bytes.Repeat(cert, 3000), "larger than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := x509x.ParseCertificates(tt.text)
			wantInvalid(t, err, tt.reason)
			_, _, err = x509x.SplitChain(tt.text)
			wantInvalid(t, err, tt.reason)
		})
	}
}

func TestSplitChain_CutsAfterTheLeaf(t *testing.T) {
	leaf, inter := certificate(t, "leaf.example"), certificate(t, "inter")
	text := bytes.Join([][]byte{x509x.EncodeCertificates(leaf), x509x.EncodeCertificates(inter)}, []byte("\n"))
	gotLeaf, gotChain, err := x509x.SplitChain(text)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(gotLeaf, x509x.EncodeCertificates(leaf)) || !bytes.Equal(gotChain, x509x.EncodeCertificates(inter)) {
		t.Errorf("leaf\n%s\nchain\n%s", gotLeaf, gotChain)
	}
	if _, chain, err := x509x.SplitChain(gotLeaf); err != nil || len(chain) > 0 {
		t.Errorf("a lone leaf has a chain: %q, %v", chain, err)
	}
}

func TestFingerprint_IsTheSHA256OfTheDER(t *testing.T) {
	cert := certificate(t, "a.example")
	sum := sha256.Sum256(cert.Raw)
	if got, want := x509x.Fingerprint(cert.Raw), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("fingerprint = %s, want %s", got, want)
	}
	sum = sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	if got, want := x509x.SPKIHash(cert.RawSubjectPublicKeyInfo), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("SPKI hash = %s, want %s", got, want)
	}
}

func FuzzParseCertificates(f *testing.F) {
	chain := x509x.EncodeCertificates(certificate(f, "a.example"), certificate(f, "ca"))
	f.Add(chain)
	f.Add(append([]byte("subject=a\n"), chain...))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: []byte{0x30, 0}}))
	f.Fuzz(func(t *testing.T, text []byte) {
		certs, err := x509x.ParseCertificates(text)
		if err != nil {
			wantInvalid(t, err, "")
			return
		}
		again, err := x509x.ParseCertificates(x509x.EncodeCertificates(certs...))
		if err != nil || len(again) != len(certs) {
			t.Fatalf("encoded anew: %d of %d, %v", len(again), len(certs), err)
		}
		for i := range certs {
			if !certs[i].Equal(again[i]) {
				t.Errorf("certificate %d changed", i)
			}
			_ = x509x.CertificateNames(certs[i]).Validate()
		}
	})
}
