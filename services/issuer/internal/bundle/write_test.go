package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/bundle"
)

const password = "correct horse battery"

func TestWriteWithKey_IsReadAgain(t *testing.T) {
	_, ca, www := hierarchy(t, "www.example.com")
	for _, format := range []bundle.Format{bundle.PEM, bundle.PKCS12, bundle.JKS} {
		for _, legacy := range []bool{false, true} {
			data, err := bundle.WriteWithKey(format, []*x509.Certificate{www.cert, ca.cert}, www.key, bundle.Lock{Password: password, Legacy: legacy}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, []byte("BEGIN PRIVATE KEY")) {
				t.Errorf("%s holds the key in the clear", format)
			}
			c := read(t, data, bundle.Options{Keys: true, Password: password})
			leaves, _ := c.Leaves()
			holds(t, leaves[0], "www.example.com", "Issuing CA", www.key)
			if c.Format != format {
				t.Errorf("%s is taken for %s", format, c.Format)
			}
			refused(t, data, bundle.Options{Keys: true, Password: password + "?"}, "password: does not open")
		}
	}
}

func TestWriteWithKey_MakesWhatOpenSSLReads(t *testing.T) {
	_, ca, www := hierarchy(t, "www.example.com")
	chain := []*x509.Certificate{www.cert, ca.cert}
	dir := t.TempDir()
	for name, lock := range map[string]bundle.Lock{"modern": {Password: password}, "legacy": {Password: password, Legacy: true}} {
		data, err := bundle.WriteWithKey(bundle.PKCS12, chain, www.key, lock, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, name+".p12", data)
		text := again(t, dir, "pkcs12", "-in", name+".p12", "-passin", "pass:"+password, "-nodes", "-info")
		if strings.Count(text, "BEGIN CERTIFICATE") != 2 || !strings.Contains(text, "BEGIN PRIVATE KEY") {
			t.Errorf("%s: openssl reads\n%s", name, text)
		}
		if modern := strings.Contains(text, "AES-256-CBC"); modern == lock.Legacy {
			t.Errorf("%s: openssl reads\n%s", name, text)
		}
	}
	data, err := bundle.WriteWithKey(bundle.PEM, chain, www.key, bundle.Lock{Password: password}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "all.pem", data)
	public := again(t, dir, "pkey", "-in", "all.pem", "-passin", "pass:"+password, "-pubout")
	if of := again(t, dir, "x509", "-in", "all.pem", "-noout", "-pubkey"); public != of {
		t.Errorf("the key is not the leaf's:\n%s%s", public, of)
	}
}

func TestWriteWithKey_RefusesAPasswordThatProtectsNothing(t *testing.T) {
	_, _, www := hierarchy(t, "www.example.com")
	for name, tt := range map[string]struct {
		format   bundle.Format
		password string
		field    string
	}{
		"none":                       {bundle.PEM, "", "password"},
		"short":                      {bundle.PKCS12, "elevenchars", "password"},
		"control characters":         {bundle.PKCS12, "correct\nhorse battery", "password"},
		"not ASCII, for Java":        {bundle.JKS, "größer als zwölf", "password"},
		"beyond what PKCS#12 writes": {bundle.PKCS12, "correct horse 🐎", "password"},
		"no form for keys":           {bundle.DER, password, "format"},
		"no form for keys either":    {bundle.PKCS7, password, "format"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := bundle.WriteWithKey(tt.format, []*x509.Certificate{www.cert}, www.key, bundle.Lock{Password: tt.password}, time.Now())
			if f := fault.From(err); data != nil || f == nil || f.Code != fault.Invalid || len(f.Fields) != 1 || f.Fields[0].Name != tt.field {
				t.Errorf("%d bytes, %v", len(data), err)
			}
		})
	}
}

func TestWrite_MakesWhatOpenSSLReads(t *testing.T) {
	_, ca, www := hierarchy(t, "www.example.com")
	chain := []*x509.Certificate{www.cert, ca.cert}
	dir := t.TempDir()
	for _, f := range []bundle.Format{bundle.PEM, bundle.DER, bundle.PKCS7, bundle.PKCS12, bundle.JKS} {
		data, err := bundle.Write(f, chain, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, string(f), data)
	}
	if text := again(t, dir, "pkcs7", "-inform", "DER", "-in", "pkcs7", "-print_certs"); strings.Count(text, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("PKCS#7 is\n%s", text)
	}
	if text := again(t, dir, "pkcs12", "-in", "pkcs12", "-passin", "pass:changeit", "-nokeys"); strings.Count(text, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("PKCS#12 is\n%s", text)
	}
	if got := fileIn(t, dir, "der"); !bytes.Equal(got, www.cert.Raw) {
		t.Error("DER is not the leaf")
	}
	for _, f := range []bundle.Format{bundle.PEM, bundle.PKCS12, bundle.JKS} {
		leaves, _ := read(t, fileIn(t, dir, string(f)), bundle.Options{Password: bundle.StorePassword}).Leaves()
		holds(t, leaves[0], "www.example.com", "Issuing CA", nil)
	}
}

func TestWriteWithKey_TakesEveryKindOfKeyThatCertificatesHave(t *testing.T) {
	_, ca, _ := hierarchy(t, "www.example.com")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: x509x.NewSerial(), DNSNames: []string{"ed.example.com"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []bundle.Format{bundle.PEM, bundle.PKCS12, bundle.JKS} {
		data, err := bundle.WriteWithKey(format, []*x509.Certificate{cert, ca.cert}, key, bundle.Lock{Password: password}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		leaves, _ := read(t, data, bundle.Options{Keys: true, Password: password}).Leaves()
		holds(t, leaves[0], "", "Issuing CA", key)
	}
}

func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
