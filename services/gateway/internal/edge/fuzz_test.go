package edge

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

// FuzzEdge_AnswersWhateverNetHTTPLetsThrough sends requests over a real bus to owners that
// check who asks. Nothing may panic, be answered with a 500, or reach an owner as anybody
// but the holder of the key.
func FuzzEdge_AnswersWhateverNetHTTPLetsThrough(f *testing.F) {
	for _, seed := range [][5]string{
		{"GET", "/api/v1/certificates", "Accept", "*/*", ""},
		{"POST", "/api/v1/certificates?x=%00", "Certctl-Principal", "e30", "{}"},
		{"GET", "/api/v1/jobs/job-i-%00%ff/../x", "Connection", "Authorization, Certctl-Principal", ""},
		{"DELETE", "/api/v1/certificates/%2e%2e%2f", "Nats-Msg-Id", "x", ""},
		{"PUT", "//api/v1/targets/*", "Natshttp-Status", "200", "\x00"},
		{"GET", "http://[::1]:x/api/v1/agents", "Transfer-Encoding", "chunked", "0\r\n\r\n"},
		{"OPTIONS", "*", "Host", "a b", ""},
		{"BREW", "/api/v1/sites?a=%zz", "Traceparent", "00-" + strings.Repeat("f", 80), ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	h := overTheBus(f)
	f.Fuzz(func(t *testing.T, method, target, name, value, body string) {
		raw := method + " " + target + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + goodKey + "\r\n" + name + ": " + value + "\r\n\r\n" + body
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError || w.Code < 200 || w.Code > 599 {
			t.Errorf("%q: %d %s", raw, w.Code, w.Body)
		}
		if w.Header().Get("X-Request-ID") == "" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%q: %v", raw, w.Header())
		}
	})
}

// forgetful takes records and keeps none.
type forgetful struct{}

func (forgetful) Durable(context.Context, event.APICall) error { return nil }
func (forgetful) Background(event.APICall)                     {}

// overTheBus is an edge whose owners are served on a NATS server of the test.
func overTheBus(f *testing.F) http.Handler {
	f.Helper()
	server := natstest.Start(f)
	e, _, _ := newEdge()
	e.Records = forgetful{}
	e.Owners = natshttp.NewTransport(server.Connect(bus.Options{Name: "gateway"}).NC)
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.Context()))
	running := 0
	done := make(chan error)
	f.Cleanup(func() {
		cancel()
		for range running {
			if err := <-done; err != nil {
				f.Error(err)
			}
		}
	})
	for _, service := range []string{"gateway", "issuer", "deployment", "audit"} {
		conn, up := server.Connect(bus.Options{Name: service}), make(chan struct{})
		running++
		go func() {
			done <- natshttp.Serve(ctx, conn.NC, natshttp.Options{
				Service: service, Operations: httpapi.OperationsOf(service), Log: e.Log, Started: func() { close(up) },
			}, http.HandlerFunc(suspicious))
		}()
		<-up
	}
	return e.Handler()
}

// suspicious answers 500 when it is asked as anybody but the holder of the key, or
// nobody where no key is needed.
func suspicious(w http.ResponseWriter, r *http.Request) {
	p := authn.FromContext(r.Context())
	if p.ID != "key-1" && p.Kind != authn.KindAnonymous || r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
