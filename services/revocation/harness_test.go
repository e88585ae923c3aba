package revocation_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/revocation"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// world is a bus with the contract's streams, a database, and an issuer service.
type world struct {
	*testing.T
	pool   *pgxpool.Pool
	nats   *natstest.Server
	conn   *bus.Conn
	clock  *clock.Manual
	issuer *issuerService
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		T: t, pool: pgtest.New(t, migrations.FS("revocation"), "revocation"), nats: natstest.Start(t),
		clock: clock.At(time.Now().Truncate(time.Second)),
	}
	w.conn = w.nats.Connect(bus.Options{Name: "test"})
	streams, consumers := stream.Core()
	m := bus.Manifest{Rev: stream.Revision, Streams: streams}.Scaled(0.01)
	for _, c := range consumers {
		m.Consumers = append(m.Consumers, bus.ConsumerSpec{Stream: c.Stream, Config: c.Config})
	}
	if _, err := m.Apply(t.Context(), w.conn.JS); err != nil {
		t.Fatal(err)
	}
	w.issuer = &issuerService{t: t, nc: w.nats.Connect(bus.Options{Name: "issuer"}).NC, authorities: map[string]*authority{}}
	w.issuer.come()
	return w
}

// run runs the service behind the middleware that it is mounted under, and returns its
// URL and a function that ends it.
func (w *world) run() (url string, end func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	log := slog.New(slog.DiscardHandler)
	mounted := make(chan http.Handler, 1)
	deps := service.Deps{
		Log: log, DB: w.pool, Bus: w.nats.Connect(bus.Options{Name: "revocation"}), Metrics: obs.NewRegistry(),
		Health: health.New(log), Clock: w.clock,
	}
	done := make(chan error, 1)
	go func() {
		done <- revocation.Run(ctx, revocation.Config{Mount: func(h http.Handler) { mounted <- h }}, deps)
	}()
	server := httptest.NewServer(httpx.RequestID(httpx.Recover(log)(<-mounted)))
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		server.Close()
		cancel()
		if err := <-done; err != nil {
			w.Errorf("the service ended: %v", err)
		}
	}
	w.Cleanup(end)
	return server.URL, end
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

// publish tells of an event, of a version of what it is about.
func (w *world) publish(e event.Event, version int64) {
	w.Helper()
	aggregate, of, _ := e.About()
	body, err := json.Marshal(e)
	if err != nil {
		w.Fatal(err)
	}
	m := bus.Message{
		ID: id.New("ev-"), Subject: event.Subject(e), Type: event.Type(e), Source: "/certctl/issuer",
		Entity: aggregate + "/" + of, Time: time.Now(), AggVersion: version, Body: body,
	}
	msg, err := m.Encode()
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.conn.JS.PublishMsg(w.Context(), msg); err != nil {
		w.Fatal(err)
	}
}

// configure makes a CA the one of an issuer and tells of it.
func (w *world) configure(issuerID string, a *authority, version int64) {
	w.Helper()
	w.issuer.put(issuerID, a)
	w.publish(event.IssuerConfigured{IssuerID: issuerID, Name: issuerID, Type: "Local", CAChainPEM: a.pem(), SignsCRL: true}, version)
}

// issued tells of a certificate.
func (w *world) issued(issuerID string, c *x509.Certificate) {
	w.Helper()
	w.publish(event.CertificateIssued{
		CertificateID: id.New("mc-"), IssuerID: issuerID,
		Version: event.Version{VersionID: id.New("cv-"), SerialNumber: x509x.SerialHex(c.SerialNumber), NotAfter: c.NotAfter},
	}, 1)
}

// heard waits until the service has taken in everything that was told.
func (w *world) heard() {
	w.Helper()
	w.await("the service to hear everything", func() bool {
		consumer, err := w.conn.JS.Consumer(w.Context(), subject.StreamEvents, subject.ConsumerRevocationEvents)
		if err != nil {
			w.Fatal(err)
		}
		info, err := consumer.Info(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		events, err := w.conn.JS.Stream(w.Context(), subject.StreamEvents)
		if err != nil {
			w.Fatal(err)
		}
		// What is pending is noted a little later than what is stored.
		return info.NumPending == 0 && info.NumAckPending == 0 && info.AckFloor.Stream >= events.CachedInfo().State.LastSeq
	})
}

func (w *world) do(method, url string, body []byte) (*http.Response, []byte) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/ocsp-request")
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return res, answer
}

func (w *world) get(url string) (*http.Response, []byte) {
	w.Helper()
	return w.do(http.MethodGet, url, nil)
}

func (w *world) wantStatus(url string, want int) {
	w.Helper()
	if res, body := w.get(url); res.StatusCode != want {
		w.Errorf("%s: %d %s; want %d", url, res.StatusCode, body, want)
	} else if want >= 400 && res.Header.Get("Cache-Control") != "no-store" {
		w.Errorf("%s: a refusal may be kept: %q", url, res.Header.Get("Cache-Control"))
	}
}
