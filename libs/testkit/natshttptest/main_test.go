// Package natshttptest holds the tests of libs/natshttp against a real NATS server, which that module itself must not
// depend on.
package natshttptest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a service behind a NATS server, and a client that asks it.
type rig struct {
	server *natstest.Server
	caller *bus.Conn
	client *http.Client
	stop   func() error // ends Serve and returns its error; the test's end calls it too
}

func serve(t *testing.T, h http.Handler, change ...func(*natshttp.Options)) *rig {
	t.Helper()
	return serveOn(t, natstest.Start(t), bus.Options{Name: "gateway"}, bus.Options{Name: "issuer"}, h, change...)
}

func serveOn(t *testing.T, s *natstest.Server, caller, service bus.Options, h http.Handler, change ...func(*natshttp.Options)) *rig {
	t.Helper()
	r := &rig{server: s, caller: s.Connect(caller)}
	conn := s.Connect(service)
	started := make(chan struct{})
	opts := natshttp.Options{
		Service: "issuer", Version: "1.2.3", Operations: []string{"listCertificates", "createCertificate"},
		Started: func() { close(started) },
		Log:     slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&opts)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var result error
	go func() {
		defer close(ended)
		result = natshttp.Serve(ctx, conn.NC, opts, h)
	}()
	r.stop = func() error {
		cancel()
		await(t, "Serve to return", ended)
		return result
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	await(t, "Serve to start", started)
	r.client = &http.Client{Transport: natshttp.NewTransport(r.caller.NC)}
	return r
}

func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

// request makes a request to the operation listCertificates.
func request(ctx context.Context, t *testing.T, method, target string, body ...byte) *http.Request {
	t.Helper()
	ctx = natshttp.WithRoute(ctx, natshttp.Route{Service: "issuer", Operation: "listCertificates"})
	req, err := http.NewRequestWithContext(ctx, method, "http://issuer"+target, reader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func do(t *testing.T, r *rig, req *http.Request) *http.Response {
	t.Helper()
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// mustFail makes a request that gets no response, and returns why.
func mustFail(t *testing.T, r *rig, req *http.Request) error {
	t.Helper()
	resp, err := r.client.Do(req)
	if err == nil {
		resp.Body.Close()
		t.Fatalf("%s %s: answered %d, want an error", req.Method, req.URL.Path, resp.StatusCode)
	}
	return errors.Unwrap(err) // without the client's url.Error
}
