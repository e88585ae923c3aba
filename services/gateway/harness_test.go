package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/gateway"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// sealer is that of every gateway of the tests.
var sealer = secret.New(secret.NewKey())

// world is a running gateway with its bus, its database and a client.
type world struct {
	*testing.T
	nats   *natstest.Server
	conn   *bus.Conn // of the test
	pool   *pgxpool.Pool
	log    *slog.Logger
	url    string
	key    string
	client *http.Client
	end    func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, byKeys())
}

func newWorldWith(t *testing.T, cfg gateway.Config) *world {
	t.Helper()
	w := &world{
		T: t, nats: natstest.Start(t), pool: pgtest.New(t, migrations.FS("gateway"), "gateway"),
		log: slog.New(slog.DiscardHandler), client: &http.Client{Transport: &http.Transport{}, Timeout: patience},
	}
	if testing.Verbose() {
		w.log, _ = obs.NewLogger(t.Output(), "debug", "text")
	}
	w.conn = w.nats.Connect(bus.Options{Name: "test"})
	streams, _ := stream.Core()
	if _, err := (bus.Manifest{Rev: stream.Revision, Streams: streams}).Scaled(0.01).Apply(t.Context(), w.conn.JS); err != nil {
		t.Fatal(err)
	}
	w.start(cfg)
	t.Cleanup(w.client.CloseIdleConnections)
	return w
}

func byKeys() gateway.Config { return gateway.Config{ServerHost: "127.0.0.1", AuthType: "api-key"} }

func (w *world) start(cfg gateway.Config) {
	w.Helper()
	cfg.AdminKeyFile = filepath.Join(w.TempDir(), "admin.key")
	listening := make(chan string, 1)
	cfg.Listening = func(url string) { listening <- url }
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	conn := w.nats.Connect(bus.Options{Name: "gateway"})
	checks := health.New(w.log)
	checks.Add("bus", func(ctx context.Context) error { return conn.Ready(ctx) })
	done := make(chan error, 1)
	go func() {
		done <- gateway.Run(ctx, cfg, service.Deps{
			Log: w.log, DB: w.pool, Bus: conn, Metrics: obs.NewRegistry(), Health: checks, Clock: clock.System, Sealer: sealer,
		})
	}()
	ended := false
	w.end = func() {
		w.client.CloseIdleConnections()
		cancel()
		if !ended {
			ended = true
			if err := <-done; err != nil {
				w.Errorf("the gateway ended: %v", err)
			}
		}
	}
	w.Cleanup(w.end)
	select {
	case w.url = <-listening:
	case err := <-done:
		ended = true
		w.Fatalf("the gateway ended: %v", err)
	}
	key, err := os.ReadFile(cfg.AdminKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return // another gateway has made the first key
	}
	if err != nil {
		w.Fatal(err)
	}
	w.key = strings.TrimSpace(string(key))
}

// another is a second gateway beside w, over the same bus and database.
func (w *world) another(cfg gateway.Config) *world {
	w.Helper()
	other := *w
	other.start(cfg)
	return &other
}

// own has a service's operations answered by h until the returned function is called.
func (w *world) own(name string, h http.HandlerFunc) (leave func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	conn := w.nats.Connect(bus.Options{Name: name})
	done, up := make(chan error, 1), make(chan struct{})
	go func() {
		done <- natshttp.Serve(ctx, conn.NC, natshttp.Options{
			Service: name, Operations: httpapi.OperationsOf(name), Log: w.log, Started: func() { close(up) },
		}, h)
	}()
	<-up
	ended := false
	leave = func() {
		cancel()
		if !ended {
			ended = true
			if err := <-done; err != nil {
				w.Errorf("%s ended: %v", name, err)
			}
		}
	}
	w.Cleanup(leave)
	return leave
}

func (w *world) request(method, path, body string) *http.Request {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.key)
	return r
}

func (w *world) do(r *http.Request) (*http.Response, []byte) {
	w.Helper()
	res, err := w.client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return res, body
}

// as sends a request with a credential and decodes what is answered.
func (w *world) as(credential, method, path string, body any) (*http.Response, map[string]any) {
	w.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.Fatal(err)
	}
	if body == nil {
		text = nil
	}
	r := w.request(method, path, string(text))
	r.Header.Set("Authorization", "Bearer "+credential)
	if credential == "" {
		r.Header.Del("Authorization")
	}
	res, answer := w.do(r)
	got := map[string]any{}
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &got); err != nil {
			w.Fatalf("%s %s: %q is no object: %v", method, path, answer, err)
		}
	}
	return res, got
}

// makeKey makes an API key and returns its id and the key.
func (w *world) makeKey(body map[string]any) (id, key string) {
	w.Helper()
	res, got := w.as(w.key, http.MethodPost, "/api/v1/api-keys", body)
	id, _ = got["id"].(string)
	key, _ = got["key"].(string)
	if res.StatusCode != http.StatusCreated || id == "" || key == "" {
		w.Fatalf("%d %v", res.StatusCode, got)
	}
	return id, key
}

func (w *world) get(path string) (*http.Response, []byte) {
	w.Helper()
	return w.do(w.request(http.MethodGet, path, ""))
}

func (w *world) problem(body []byte) httpx.Problem {
	w.Helper()
	var p httpx.Problem
	if err := json.Unmarshal(body, &p); err != nil {
		w.Fatalf("%.200q is no problem document: %v", body, err)
	}
	return p
}

func (w *world) await(what string, done func() bool) {
	w.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			w.Fatalf("waited in vain for %s", what)
		}
	}
}

// recorded returns the record of a call, by its request id, once it is on the stream.
func (w *world) recorded(requestID string) event.APICall {
	w.Helper()
	var found event.APICall
	w.await("the record of "+requestID, func() bool {
		s, err := w.conn.JS.Stream(w.Context(), subject.StreamAudit)
		if err != nil {
			w.Fatal(err)
		}
		for n := uint64(1); n <= s.CachedInfo().State.LastSeq; n++ {
			raw, err := s.GetMsg(w.Context(), n)
			if err != nil {
				w.Fatal(err)
			}
			var called event.APICalled
			if err := json.Unmarshal(raw.Data, &called); err != nil {
				w.Fatal(err)
			}
			for _, c := range called.Calls {
				if c.RequestID == requestID {
					found = c
					return true
				}
			}
		}
		return false
	})
	return found
}
