package revocation_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/x509x"
)

// status asks for a serial number by its path and returns the verified answer.
func (w *world) status(url, issuerID, serial string, by *authority) *ocsp.Response {
	w.Helper()
	res, der := w.get(url + "/api/v1/ocsp/" + issuerID + "/" + serial)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/ocsp-response" {
		w.Fatalf("%s: %d %s", serial, res.StatusCode, der)
	}
	answer, err := ocsp.ParseResponse(der, by.cert)
	if err != nil {
		w.Fatalf("%s: %v", serial, err)
	}
	now := w.clock.Now()
	if answer.ThisUpdate.After(now) || !answer.NextUpdate.After(now) || answer.NextUpdate.After(answer.Certificate.NotAfter) {
		w.Errorf("at %v the answer is good from %v to %v", now, answer.ThisUpdate, answer.NextUpdate)
	}
	cache := res.Header.Get("Cache-Control")
	if kept := cache == "public, max-age=1800"; kept != (answer.Status == ocsp.Good) || !kept && cache != "no-store" {
		w.Errorf("an answer of status %d is kept: %q", answer.Status, cache)
	}
	return answer
}

func TestOCSP_SaysGoodOnlyOfWhatTheIssuerIssued(t *testing.T) {
	w := newWorld(t)
	a, b := newAuthority(t, w.clock, "CA A"), newAuthority(t, w.clock, "CA B")
	url, _ := w.run()
	w.configure("iss-a", a, 1)
	w.configure("iss-b", b, 1)
	ofA, ofB := a.leaf(), b.leaf()
	ofA.SerialNumber = big.NewInt(0x0abc0def01)
	w.issued("iss-a", ofA)
	w.issued("iss-b", ofB)
	w.heard()

	for serial, want := range map[string]int{
		"abc0def01":                       ocsp.Good,
		"ABC0DEF01":                       ocsp.Good,
		"0abc0def01":                      ocsp.Good,
		"00000000000000000abC0dEf01":      ocsp.Good,
		"0A:BC:0D:EF:01":                  ocsp.Good,
		"0xABC0DEF01":                     ocsp.Good,
		"%20abc0def01%20":                 ocsp.Good,
		"abc0def0":                        ocsp.Unknown,
		"deadbeef":                        ocsp.Unknown,
		"0":                               ocsp.Unknown,
		x509x.SerialHex(ofB.SerialNumber): ocsp.Unknown,
		ofA.SerialNumber.String():         ocsp.Unknown, // decimal digits are hex too, of another number
	} {
		if got := w.status(url, "iss-a", serial, a).Status; got != want {
			t.Errorf("%s is %d, want %d", serial, got, want)
		}
	}
	if got := w.status(url, "iss-b", x509x.SerialHex(ofB.SerialNumber), b).Status; got != ocsp.Good {
		t.Errorf("of the other issuer it is %d", got)
	}
	for _, serial := range []string{"zz-not-hex", "-1", "%00", "ab%00", "0x", ":", strings.Repeat("f", 65), "%ff"} {
		w.wantStatus(url+"/api/v1/ocsp/iss-a/"+serial, http.StatusBadRequest)
	}
	if _, certified := w.issuer.counts(); certified != 2 {
		t.Errorf("%d responders were certified for two issuers", certified)
	}
}

func TestOCSP_AnswersRequestsOfTheProtocol(t *testing.T) {
	w := newWorld(t)
	a, other := newAuthority(t, w.clock, "CA A"), newAuthority(t, w.clock, "CA B")
	url, _ := w.run()
	w.configure("iss-a", a, 1)
	leaf, stray := a.leaf(), a.leaf()
	w.issued("iss-a", leaf)
	w.heard()
	url += "/api/v1/ocsp/iss-a"

	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384} {
		for c, want := range map[*x509.Certificate]int{leaf: ocsp.Good, stray: ocsp.Unknown} {
			answer, err := ocsp.ParseResponseForCert(w.post(url, request(t, c, a, hash)), c, a.cert)
			if err != nil || answer.Status != want || answer.IssuerHash != hash {
				t.Errorf("%v: %+v, %v", hash, answer, err)
			}
		}
	}
	if got := w.post(url, request(t, other.leaf(), other, crypto.SHA1)); !bytes.Equal(got, ocsp.UnauthorizedErrorResponse) {
		t.Errorf("of another CA: %x", got)
	}
	good := request(t, leaf, a, crypto.SHA1)
	for name, bad := range map[string][]byte{
		"nothing": {}, "text": []byte("hello"), "cut short": good[:len(good)-3], "too long": append(bytes.Clone(good), 0),
	} {
		if got := w.post(url, bad); !bytes.Equal(got, ocsp.MalformedRequestErrorResponse) {
			t.Errorf("%s: %x", name, got)
		}
	}
	if res, body := w.do(http.MethodPost, url, make([]byte, 1<<20)); res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a request of 1 MiB: %d %s", res.StatusCode, body)
	}
}

func request(t *testing.T, c *x509.Certificate, by *authority, hash crypto.Hash) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(c, by.cert, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (w *world) post(url string, body []byte) []byte {
	w.Helper()
	res, answer := w.do(http.MethodPost, url, body)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/ocsp-response" {
		w.Fatalf("%d %s", res.StatusCode, answer)
	}
	return answer
}

// TestOCSP_SatisfiesOpenSSL has a second implementation verify the answers.
func TestOCSP_SatisfiesOpenSSL(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, w.clock, "CA A")
	url, _ := w.run()
	w.configure("iss-a", a, 1)
	leaf, stray := a.leaf(), a.leaf()
	w.issued("iss-a", leaf)
	w.heard()
	dir := t.TempDir()
	for name, c := range map[string]*x509.Certificate{"ca": a.cert, "leaf": leaf, "stray": stray} {
		if err := os.WriteFile(filepath.Join(dir, name), x509x.EncodeCertificates(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ hash, cert, want string }{
		{"-sha1", "leaf", "leaf: good"}, {"-sha256", "leaf", "leaf: good"}, {"-sha1", "stray", "stray: unknown"},
	} {
		cmd := exec.CommandContext(t.Context(), "openssl", "ocsp", "-CAfile", "ca", "-issuer", "ca", c.hash,
			"-cert", c.cert, "-url", url+"/api/v1/ocsp/iss-a")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Response verify OK") || !strings.Contains(string(out), c.want) {
			t.Errorf("%s %s: %v\n%s", c.hash, c.cert, err, out)
		}
	}
	_, der := w.get(url + "/api/v1/crl/iss-a")
	if err := os.WriteFile(filepath.Join(dir, "crl"), der, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"crl", "-inform", "DER", "-in", "crl", "-noout", "-verify", "-CAfile", "ca"},
		{"verify", "-CAfile", "ca", "-crl_check", "-CRLfile", "crl", "leaf"},
	} {
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("openssl %s: %v\n%s", args, err, out)
		}
	}
}

func TestOCSP_GoesOnWhileTheIssuerIsAway(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, w.clock, "CA A")
	url, _ := w.run()
	w.configure("iss-a", a, 1)
	leaf := a.leaf()
	w.issued("iss-a", leaf)
	w.heard()
	serial := x509x.SerialHex(leaf.SerialNumber)
	w.issuer.leave()
	w.wantStatus(url+"/api/v1/ocsp/iss-a/"+serial, http.StatusServiceUnavailable)
	w.issuer.come()
	w.clock.Advance(time.Minute)
	first := w.status(url, "iss-a", serial, a)

	w.clock.Advance(responderLife / 2)
	w.status(url, "iss-a", serial, a)
	w.await("the responder's certificate to be renewed", func() bool {
		return !w.status(url, "iss-a", serial, a).Certificate.Equal(first.Certificate)
	})
	w.issuer.leave()
	w.clock.Advance(responderLife - time.Hour)
	w.status(url, "iss-a", serial, a)
	w.clock.Advance(2 * time.Hour)
	w.wantStatus(url+"/api/v1/ocsp/iss-a/"+serial, http.StatusServiceUnavailable)
}

func TestOCSP_WantsACertificateOfTheCAThatIsKnown(t *testing.T) {
	w := newWorld(t)
	known, other := newAuthority(t, w.clock, "CA A"), newAuthority(t, w.clock, "CA A")
	url, _ := w.run()
	w.configure("iss-a", known, 1)
	w.issuer.put("iss-a", other)
	w.heard()
	w.wantStatus(url+"/api/v1/ocsp/iss-a/01", http.StatusServiceUnavailable)
	// When it hears of the new CA it answers in its name.
	w.configure("iss-a", other, 2)
	w.heard()
	w.status(url, "iss-a", "01", other)
}

func TestLearning_TheNewestWinsInWhateverOrderAndOftenNewsComes(t *testing.T) {
	w := newWorld(t)
	old, current := newAuthority(t, w.clock, "old"), newAuthority(t, w.clock, "current")
	w.configure("iss-a", current, 7)
	w.configure("iss-a", old, 6)
	w.configure("iss-a", old, 7)
	leaf := current.leaf()
	for range 3 {
		w.issued("iss-a", leaf)
	}
	renewed := event.CertificateRenewed{}
	renewed.CertificateID, renewed.IssuerID = "mc-1", "iss-a"
	renewed.SerialNumber, renewed.NotAfter = "00:AB", time.Now()
	w.publish(renewed, 2)
	broken := renewed
	broken.SerialNumber = "no number"
	w.publish(broken, 3)
	w.publish(event.IssuerConfigured{IssuerID: "iss-broken", CAChainPEM: "no certificate"}, 1)
	w.issuer.put("iss-a", current)
	url, _ := w.run()
	w.heard()

	if _, chain := w.get(url + "/api/v1/ca/iss-a"); string(chain) != current.pem() {
		t.Errorf("the CA is\n%s", chain)
	}
	var serials, issuers int
	if err := w.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM issued_serials), (SELECT count(*) FROM issuers)`).Scan(&serials, &issuers); err != nil {
		t.Fatal(err)
	}
	if serials != 2 || issuers != 1 {
		t.Errorf("%d serial numbers and %d issuers are known", serials, issuers)
	}
	if got := w.status(url, "iss-a", "ab", current).Status; got != ocsp.Good {
		t.Errorf("a serial number that was told with colons is %d", got)
	}
	dead, err := w.conn.JS.Stream(t.Context(), subject.StreamDeadLetters)
	if err != nil {
		t.Fatal(err)
	}
	info, err := dead.Info(t.Context())
	if err != nil || info.State.Msgs != 2 {
		t.Errorf("%d dead letters, %v", info.State.Msgs, err)
	}
}
