package app_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

// The CA has finalized the order and still says that it works on it when the service is stopped.
func TestACME_GoesOnWithItsOrderAfterARestart(t *testing.T) {
	w := newWorld(t)
	s := w.pebble(pebbletest.Options{Bound: true})
	settings := app.Settings{ACME: app.ACME{HTTPAddress: s.HTTP}}
	first := w.start(settings)
	var busy, finalized atomic.Bool
	busy.Store(true)
	body := acmeIssuer(s)
	body["config"].(map[string]any)["directory_url"] = s.Behind(func(r *http.Request, answer *httptest.ResponseRecorder) {
		if strings.HasPrefix(r.URL.Path, "/finalize-order/") && answer.Code < 300 {
			finalized.Store(true)
		}
		if strings.HasPrefix(r.URL.Path, "/my-order/") && busy.Load() {
			answer.Body = bytes.NewBufferString(strings.Replace(answer.Body.String(), `"status": "valid"`, `"status": "processing"`, 1))
		}
	})
	i := w.issuer(body)
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")})
	w.await("the order to be finalized", func() bool { return finalized.Load() && s.Issued() == 1 })
	first.end()
	if n := w.count(`SELECT count(*) FROM certificate_versions`); n != 0 {
		t.Fatalf("%d versions before the CA was done", n)
	}
	busy.Store(false)
	w.start(settings)
	w.signed(c)
	if s.Issued() != 1 {
		t.Errorf("the CA has issued %d certificates", s.Issued())
	}
}

func TestACME_GoesOnWithItsOrderAfterTheConnectionWasLost(t *testing.T) {
	w := newWorld(t)
	s := w.pebble(pebbletest.Options{Bound: true})
	w.start(app.Settings{ACME: app.ACME{HTTPAddress: s.HTTP}})
	var cut atomic.Bool
	body := acmeIssuer(s)
	body["config"].(map[string]any)["directory_url"] = s.Behind(func(r *http.Request, answer *httptest.ResponseRecorder) {
		if strings.HasPrefix(r.URL.Path, "/finalize-order/") && answer.Code < 300 && cut.CompareAndSwap(false, true) {
			panic(http.ErrAbortHandler)
		}
	})
	i := w.issuer(body)
	w.signed(w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")}))
	if s.Issued() != 1 || !cut.Load() {
		t.Errorf("the CA has issued %d certificates", s.Issued())
	}
}
