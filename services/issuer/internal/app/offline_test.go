package app_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// offlineRoot is a root that is kept elsewhere.
type offlineRoot struct {
	cert *x509.Certificate
	key  crypto.Signer
	text string
}

func newOfflineRoot(t *testing.T) *offlineRoot {
	t.Helper()
	r := &offlineRoot{key: catest.NewKey(t, ecdsa)}
	r.cert = r.certify(t, caTemplate("Offline Root", 365*24*time.Hour), nil, r.key.Public())
	r.text = string(x509x.EncodeCertificates(r.cert))
	return r
}

func caTemplate(name string, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().AddDate(-2, 0, 0),
		NotAfter: time.Now().Add(life), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func (r *offlineRoot) certify(t *testing.T, template, parent *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, r.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sign certifies what a request asks for, as a CA.
func (r *offlineRoot) sign(t *testing.T, request string) string {
	t.Helper()
	csr, err := x509x.ParseCSR([]byte(request))
	if err != nil {
		t.Fatal(err)
	}
	template := caTemplate(csr.Subject.CommonName, 200*24*time.Hour)
	template.MaxPathLenZero = true
	return string(x509x.EncodeCertificates(r.certify(t, template, r.cert, csr.PublicKey)))
}

// endingCA is a CA that is two years old and ends in a while, with its key.
func endingCA(t *testing.T, life time.Duration) (cert, key string) {
	t.Helper()
	signer := catest.NewKey(t, ecdsa)
	text, err := x509x.EncodePrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	r := newOfflineRoot(t)
	return string(x509x.EncodeCertificates(r.certify(t, caTemplate("Ending", life), r.cert, signer.Public()))), string(text)
}

func TestIssuer_TakesAnEncryptedKeyAndKeepsNeitherItNorItsPassword(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	certPath, keyPath, _ := subordinate(t)
	const password = "correct-horse-battery"
	out, err := exec.CommandContext(t.Context(), "openssl", "pkcs8", "-topk8", "-in", keyPath, "-out", keyPath+".locked", "-passout", "pass:"+password).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	body := func(password string) map[string]any {
		return map[string]any{"id": "iss-sub", "name": "Sub", "type": "local", "enabled": true, "config": map[string]any{
			"ca_cert_pem": read(t, certPath), "ca_key_pem": read(t, keyPath+".locked"), "ca_key_password": password,
		}}
	}
	p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, body("another"))
	if len(p.Errors) != 1 || p.Errors[0].Name != "config.ca_key_pem" || !strings.Contains(p.Errors[0].Reason, "password") {
		t.Errorf("%+v", p)
	}
	i := w.issuer(body(password))
	verified(t, w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")}), i)
	told, message := hear(w, func(e event.IssuerChanged) bool { return e.ID == i.ID })
	if told.Changes["config.ca_key_password"] != (event.Change{Before: "(secret)", After: "(secret)"}) || strings.Contains(string(message.Body), password) {
		t.Errorf("told %s", message.Body)
	}
	if _, there := i.Config["ca_key_password"]; there {
		t.Errorf("the record shows %v", i.Config)
	}
	for _, table := range []string{"issuers", "ca_keys", "outbox"} {
		if n := w.count(`SELECT count(*) FROM `+table+` t WHERE t::text LIKE $1 OR t::text LIKE $2`, "%"+password+"%", "%ENCRYPTED PRIVATE%"); n != 0 {
			t.Errorf("%s holds the password or the key", table)
		}
	}
}
