package postgres_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca/stepcatest"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// inBetween stands between certctl and a real step-ca, under a certificate of that CA, and does to requests for
// certificates what its mood is.
type inBetween struct {
	url  string
	mood atomic.Pointer[http.HandlerFunc]
}

func openStepCA(t *testing.T, s *stepcatest.Server, url string) *stepca.Authority {
	t.Helper()
	authority, err := stepca.Open(t.Context(), stepca.Config{
		URL: url, RootFingerprint: x509x.Fingerprint(s.Root.Raw), Provisioner: stepcatest.Provisioner, Key: s.Key, Password: []byte(stepcatest.Password),
	}, clock.System)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func standBetween(t *testing.T, s *stepcatest.Server) *inBetween {
	t.Helper()
	authority := openStepCA(t, s, s.URL)
	key := catest.NewKey(t, "ECDSA P-256")
	issued, err := authority.Issue(t.Context(), catest.NewRequest(t, key, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := x509x.ParseCertificates(issued.ChainPEM)
	if err != nil {
		t.Fatal(err)
	}
	mine := tls.Certificate{PrivateKey: key.(*ecdsa.PrivateKey)}
	for _, c := range chain {
		mine.Certificate = append(mine.Certificate, c.Raw)
	}
	behind, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Root)
	through := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(behind) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
	}
	p := &inBetween{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/sign") {
			through.ServeHTTP(w, r)
			return
		}
		if mood := p.mood.Load(); mood != nil {
			(*mood)(w, r)
			return
		}
		through.ServeHTTP(w, r)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{mine}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// cutOff closes the connection without an answer.
func cutOff(w http.ResponseWriter, _ *http.Request) {
	if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = c.Close()
	}
}

// someoneElses is what a CA answered to somebody else.
func someoneElses(t *testing.T, s *stepcatest.Server) http.HandlerFunc {
	authority := openStepCA(t, s, s.URL)
	issued, err := authority.Issue(t.Context(), catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	answer := `{"certChain": ["` + strings.ReplaceAll(strings.TrimSpace(string(issued.ChainPEM)), "\n", `\n`) + `"]}`
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, answer)
	}
}

// TestMisbehaving_ARealCABehindABadLineLosesAndDoublesNothing has a real step-ca answer through somebody who does the
// worst to its answers for ten minutes.
func TestMisbehaving_ARealCABehindABadLineLosesAndDoublesNothing(t *testing.T) {
	s := stepcatest.Start(t)
	for name, c := range map[string]struct {
		mood http.HandlerFunc
		says string
	}{
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, "did not answer within"},
		"answers garbage": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>busy</html>")
		}, "not JSON"},
		"answers with somebody else's certificate": {someoneElses(t, s), "another key"},
		"drops the connection":                     {cutOff, "cannot be reached"},
		"fails": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
		}, "HTTP 500"},
		"has had enough": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "slow down"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutward(t)
			between := standBetween(t, s)
			o.world["iss-afar"] = openStepCA(t, s, between.url)
			o.clock.Set(time.Now())
			o.patience = 300 * time.Millisecond
			o.service = o.replica()
			between.mood.Store(&c.mood)
			made := []issuance.Created{o.request("one"), o.request("two"), o.request("three")}
			o.live(10 * time.Minute)
			for _, m := range made {
				got := o.certificate(m.Certificate.ID)
				if got.Status != issuance.Pending || !strings.Contains(got.StatusReason, c.says) || !strings.Contains(got.StatusReason, "next attempt at ") {
					t.Fatalf("after ten minutes it is %s and says %q", got.Status, got.StatusReason)
				}
			}
			between.mood.Store(nil)
			o.patience = 0
			o.service = o.replica()
			o.live(10 * time.Minute)
			for _, m := range made {
				if got := o.certificate(m.Certificate.ID); got.Status != issuance.Active || o.versions(got.ID) != 1 {
					t.Errorf("once it is back: %s, %q, %d versions", got.Status, got.StatusReason, o.versions(got.ID))
				}
			}
			for _, objection := range catest.Objections(t, o.pool, s.Root) {
				t.Error(objection)
			}
		})
	}
}
