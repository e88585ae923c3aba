package revocation_test

import (
	"bytes"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/event"
)

// list fetches a list and checks that it is empty and the CA's.
func (w *world) list(url string, by *authority) *x509.RevocationList {
	w.Helper()
	res, der := w.get(url)
	l, err := x509.ParseRevocationList(der)
	if err != nil || res.StatusCode != http.StatusOK {
		w.Fatalf("%s: %d %.200s %v", url, res.StatusCode, der, err)
	}
	if err := l.CheckSignatureFrom(by.cert); err != nil {
		w.Error(err)
	}
	if len(l.RevokedCertificateEntries) != 0 {
		w.Errorf("the list has %d entries", len(l.RevokedCertificateEntries))
	}
	now := w.clock.Now()
	if l.ThisUpdate.After(now) || !l.NextUpdate.After(now) {
		w.Errorf("at %v a list is served that is good from %v to %v", now, l.ThisUpdate, l.NextUpdate)
	}
	if got := res.Header.Get("Content-Type"); got != "application/pkix-crl" {
		w.Errorf("it is served as %s", got)
	}
	return l
}

func TestCRL_IsSignedOnceAndRenewedAfterHalfItsLife(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, w.clock, "Issuing CA")
	url, end := w.run()
	w.configure("iss-local", a, 1)
	w.heard()
	crl := url + "/api/v1/crl/iss-local"

	first := w.list(crl, a)
	w.clock.Advance(12*time.Hour - time.Minute)
	if again := w.list(crl, a); first.Number.Int64() != 1 || !bytes.Equal(first.Raw, again.Raw) {
		t.Errorf("lists %d and %d differ within half the life of one", first.Number, again.Number)
	}
	w.clock.Advance(2 * time.Minute)
	w.await("the next list", func() bool { return w.list(crl, a).Number.Int64() == 2 })

	// A restart goes on with what is stored.
	end()
	url, _ = w.run()
	crl = url + "/api/v1/crl/iss-local"
	if l := w.list(crl, a); l.Number.Int64() != 2 {
		t.Errorf("list %d after a restart", l.Number)
	}
	if signed, _ := w.issuer.counts(); signed != 2 {
		t.Errorf("%d lists were signed", signed)
	}
}

func TestCRL_TellsCachesHowLongToKeepIt(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, w.clock, "Issuing CA")
	url, _ := w.run()
	w.configure("iss-local", a, 1)
	w.heard()
	crl := url + "/api/v1/crl/iss-local"
	l := w.list(crl, a)
	w.issuer.leave()
	for at, want := range map[time.Duration]string{
		0: "public, max-age=3600", 23 * time.Hour: "public, max-age=3600", 24*time.Hour - 90*time.Second: "public, max-age=90",
	} {
		w.clock.Set(l.ThisUpdate.Add(at))
		res, _ := w.get(crl)
		if got := res.Header.Get("Cache-Control"); got != want {
			t.Errorf("after %v: %q, want %q", at, got, want)
		}
		if res.Header.Get("ETag") != `"1"` || res.Header.Get("Last-Modified") == "" {
			t.Errorf("after %v: %v", at, res.Header)
		}
	}
}

func TestCRL_IsServedUntilItsEndWhileTheIssuerIsAway(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, w.clock, "Issuing CA")
	url, end := w.run()
	w.configure("iss-local", a, 1)
	w.heard()
	crl := url + "/api/v1/crl/iss-local"
	w.list(crl, a)
	w.issuer.leave()
	w.clock.Advance(24*time.Hour - time.Second)
	w.list(crl, a)
	end()
	url, _ = w.run() // also by a process that has just started
	crl = url + "/api/v1/crl/iss-local"
	w.list(crl, a)

	w.clock.Advance(time.Minute)
	res, body := w.get(crl)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("after its end: %d %s", res.StatusCode, body)
	}
	w.issuer.come()
	w.clock.Advance(time.Minute)
	if l := w.list(crl, a); l.Number.Int64() != 2 {
		t.Errorf("list %d when the issuer is back", l.Number)
	}
}

func TestCRL_IsSignedAnewByANewCA(t *testing.T) {
	w := newWorld(t)
	before, after := newAuthority(t, w.clock, "Issuing CA"), newAuthority(t, w.clock, "Issuing CA")
	url, _ := w.run()
	w.configure("iss-local", before, 1)
	w.heard()
	crl := url + "/api/v1/crl/iss-local"
	first := w.list(crl, before)
	w.configure("iss-local", after, 2)
	w.heard()
	if l := w.list(crl, after); l.Number.Cmp(first.Number) <= 0 {
		t.Errorf("number %d after %d", l.Number, first.Number)
	}
}

func TestCRL_OfAnotherKeyIsNotServed(t *testing.T) {
	w := newWorld(t)
	known, other := newAuthority(t, w.clock, "Issuing CA"), newAuthority(t, w.clock, "Issuing CA")
	url, _ := w.run()
	w.configure("iss-local", known, 1)
	w.issuer.put("iss-local", other)
	w.heard()
	w.wantStatus(url+"/api/v1/crl/iss-local", http.StatusServiceUnavailable)
}

func TestCRL_IsTheSameOfEveryReplica(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, w.clock, "Issuing CA")
	one, _ := w.run()
	two, _ := w.run()
	w.configure("iss-local", a, 1)
	w.heard()
	lists := make(chan []byte)
	for _, url := range []string{one, two} {
		go func() {
			_, der := w.get(url + "/api/v1/crl/iss-local")
			lists <- der
		}()
	}
	if first, second := <-lists, <-lists; !bytes.Equal(first, second) {
		t.Error("two lists bear the same number")
	}
}

func TestRelyingParties_AreToldWhatIsNotServedHere(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, w.clock, "Issuing CA")
	url, _ := w.run()
	w.publish(event.IssuerConfigured{IssuerID: "iss-acme", Name: "ACME", Type: "ACME"}, 1)
	w.publish(event.IssuerConfigured{IssuerID: "iss-step", Name: "step", Type: "step-ca", CAChainPEM: a.pem()}, 1)
	w.heard()
	for _, path := range []string{
		"crl/iss-none", "ca/iss-none", "ocsp/iss-none/01",
		"crl/iss-acme", "ca/iss-acme", "ocsp/iss-acme/01",
		"crl/iss-step", "ocsp/iss-step/01",
		"crl/" + strings.Repeat("x", 3000), "crl/%2e%2e", "crl/..%2f", "crl/%00", "ca/%ff", "ocsp/%00/01", "ocsp/iss-step/01/02", "nothing",
	} {
		w.wantStatus(url+"/api/v1/"+path, http.StatusNotFound)
	}
	w.wantStatus(url+"/api/v1/ca/iss-step", http.StatusOK)
	if res, body := w.do(http.MethodDelete, url+"/api/v1/ca/iss-step", nil); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d %s", res.StatusCode, body)
	}
}
