package relyingparty_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/testkit/relyingparty"
	"github.com/certctl/certctl/libs/x509x"
)

// holder is a certificate and its key.
type holder struct {
	*x509.Certificate
	key crypto.Signer
}

// certify makes a certificate below another, or below itself.
func certify(t *testing.T, by *holder, change func(*x509.Certificate)) *holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "www.example.com"}, DNSNames: []string{"www.example.com"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	change(template)
	h := &holder{template, key}
	if by == nil {
		by = h
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if h.Certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return h
}

func authority(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject, c.DNSNames, c.ExtKeyUsage = pkix.Name{CommonName: name}, nil, nil
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
	}
}

func plain(*x509.Certificate) {}

func expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }

// chain is one whose first is served with the others, and whose last is trusted and not served.
func chain(name string, of ...*holder) relyingparty.Chain {
	c := relyingparty.Chain{Name: name, Trusted: []*x509.Certificate{of[len(of)-1].Certificate}}
	for _, h := range of[:len(of)-1] {
		c.Served = append(c.Served, h.Certificate)
	}
	return c
}

func mail(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }

func critical(c *x509.Certificate) {
	c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}, Critical: true, Value: []byte{5, 0}}}
}

func TestBothParties_ObjectToWhatNobodyShouldRelyOnAndToNothingElse(t *testing.T) {
	root, namesake := certify(t, nil, authority("Root")), certify(t, nil, authority("Root"))
	between, leaf := certify(t, root, authority("Between")), certify(t, root, plain)
	old := certify(t, nil, func(c *x509.Certificate) { authority("Old")(c); expired(c) })
	spoiled := bytes.Clone(leaf.Raw)
	spoiled[len(spoiled)-1] ^= 1
	cert, err := x509.ParseCertificate(spoiled)
	if err != nil {
		t.Fatal(err)
	}
	toServe := chain("mail", certify(t, root, mail), root)
	toServe.For = x509.ExtKeyUsageServerAuth
	for name, tt := range map[string]struct {
		chain relyingparty.Chain
		bad   bool
	}{
		"below a root":               {chain("a", leaf, root), false},
		"the root itself":            {chain("a", root, root), false},
		"below an intermediate":      {chain("a", certify(t, between, plain), between, root), false},
		"below one that is trusted":  {chain("a", certify(t, between, plain), between), false},
		"for mail":                   {chain("a", certify(t, root, mail), root), false},
		"expired since":              {chain("a", certify(t, root, expired), root), false},
		"without its intermediate":   {chain("a", certify(t, between, plain), root), true},
		"of a namesake of its CA":    {chain("a", leaf, namesake), true},
		"signed by what is no CA":    {chain("a", certify(t, leaf, plain), leaf, root), true},
		"spoiled":                    {chain("a", &holder{Certificate: cert}, root), true},
		"for mail, used to serve":    {toServe, true},
		"that does not hold yet":     {chain("a", certify(t, root, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), root), true},
		"that outlives its CA":       {chain("a", certify(t, old, plain), old), true},
		"critical and not known":     {chain("a", certify(t, root, critical), root), true},
		"expired, and of a namesake": {chain("a", certify(t, root, expired), namesake), true},
	} {
		for party, objections := range map[string][]string{
			"openssl": relyingparty.OpenSSL(t, tt.chain), "GnuTLS": relyingparty.GnuTLS(t, tt.chain),
		} {
			if (len(objections) > 0) != tt.bad {
				t.Errorf("%s, %s: %v", name, party, objections)
			}
		}
	}
}

func TestObjections_NameTheOneAmongManyThatIsBad(t *testing.T) {
	root, namesake := certify(t, nil, authority("Root")), certify(t, nil, authority("Root"))
	var chains []relyingparty.Chain
	for i := range 20 {
		by := root
		if i == 13 {
			by = namesake
		}
		chains = append(chains, chain(fmt.Sprintf("number %d", i), certify(t, by, plain), root))
	}
	objections := relyingparty.Objections(t, chains...)
	if len(objections) != 2 || !strings.Contains(objections[0], "openssl of number 13:") || !strings.Contains(objections[1], "GnuTLS of number 13:") {
		t.Errorf("%q", objections)
	}
	if objections := relyingparty.Objections(t); len(objections) > 0 {
		t.Errorf("to nothing: %q", objections)
	}
}
