package app_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// world is a database and a bus on which issuers run.
type world struct {
	t      testing.TB
	pool   *pgxpool.Pool
	nats   *natstest.Server
	conn   *bus.Conn // of the test
	sealer *secret.Sealer
	log    *slog.Logger
	as     authn.Principal
	// contentType is that of requests, JSON's if it is empty.
	contentType string
	// ifMatch is sent with requests unless it is empty.
	ifMatch string
	runs    int // issuers that are running
	heard   *recording
	// trusted are roots of CAs elsewhere that never show them.
	trusted []*x509.Certificate
	// objections are a part of each that there has to be against what is issued here, which is bad on purpose.
	objections []string
}

// admin is somebody without limits.
var admin = authn.Principal{ID: "key-admin", Kind: authn.KindUser, Roles: []string{"admin"}}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{
		t: t, pool: pgtest.New(t, migrations.FS("issuer"), "issuer"), nats: natstest.Start(t),
		sealer: secret.New(secret.NewKey()), as: admin, log: slog.New(slog.DiscardHandler),
	}
	// Benchmarks make thousands of what tests make too.
	if _, isTest := t.(*testing.T); isTest {
		t.Cleanup(func() { w.holdsUp(t) })
	}
	if testing.Verbose() {
		w.log, _ = obs.NewLogger(t.Output(), "debug", "text")
	}
	w.conn = w.nats.Connect(bus.Options{Name: "test", Log: w.log})
	streams, consumers := stream.Core()
	m := bus.Manifest{Rev: stream.Revision, Streams: streams}.Scaled(0.01)
	for _, c := range consumers {
		m.Consumers = append(m.Consumers, bus.ConsumerSpec{Stream: c.Stream, Config: c.Config})
	}
	if _, err := m.Apply(t.Context(), w.conn.JS); err != nil {
		t.Fatal(err)
	}
	w.heard = w.listen()
	return w
}

// holdsUp sees that what was issued here is what others rely on.
func (w *world) holdsUp(t testing.TB) {
	t.Helper()
	want := slices.Clone(w.objections)
	for _, objection := range catest.Objections(t, w.pool, w.trusted...) {
		expected := func(part string) bool { return strings.Contains(objection, part) }
		if !slices.ContainsFunc(w.objections, expected) {
			t.Error(objection)
		}
		want = slices.DeleteFunc(want, expected)
	}
	if len(want) > 0 {
		t.Errorf("nobody objects to %q", want)
	}
}

// issuer is a running issuer.
type issuer struct {
	t     testing.TB
	stop  context.CancelFunc
	done  chan error
	ended func()
	// metrics are those that the issuer serves.
	metrics *prometheus.Registry
}

// start runs an issuer until the test ends, or until it is stopped.
func (w *world) start(settings app.Settings) *issuer {
	w.t.Helper()
	conn := w.nats.Connect(bus.Options{Name: "issuer", Log: w.log})
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	i := &issuer{t: w.t, stop: cancel, done: make(chan error, 1), metrics: obs.NewRegistry()}
	deps := service.Deps{
		Log: w.log, DB: w.pool, Bus: conn, Metrics: i.metrics, Health: health.New(w.log),
		Clock: clock.System, Sealer: w.sealer,
	}
	go func() { i.done <- app.Run(ctx, settings, deps) }()
	i.ended = func() { w.runs-- }
	w.t.Cleanup(i.end)
	w.runs++
	w.await("the issuer to answer", func() bool {
		select {
		case err := <-i.done:
			w.t.Fatalf("the issuer ended: %v", err)
		default:
		}
		return w.answering() == w.runs
	})
	return i
}

// answering counts the issuers that answer requests.
func (w *world) answering() int {
	w.t.Helper()
	inbox := w.conn.NC.NewRespInbox()
	sub, err := w.conn.NC.SubscribeSync(inbox)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := w.conn.NC.PublishRequest("$SRV.PING.issuer", inbox, nil); err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for n < w.runs {
		if _, err := sub.NextMsg(100 * time.Millisecond); err != nil {
			break
		}
		n++
	}
	return n
}

// end stops the issuer and waits for it.
func (i *issuer) end() {
	i.stop()
	if err, running := <-i.done; running {
		close(i.done)
		i.ended()
		if err != nil {
			i.t.Errorf("the issuer ended: %v", err)
		}
	}
}

// try makes a request over the bus, as the gateway does.
func (w *world) try(method, operation, path string, body any) (int, []byte) {
	w.t.Helper()
	status, _, text := w.exchange(method, operation, path, body, nil)
	return status, text
}

// exchange is try with headers.
func (w *world) exchange(method, operation, path string, body any, header http.Header) (int, http.Header, []byte) {
	w.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		in = bytes.NewReader(encoded)
	}
	ctx := natshttp.WithRoute(context.WithoutCancel(w.t.Context()), natshttp.Route{Service: "issuer", Operation: operation})
	ctx = obs.WithRequestID(ctx, id.New("req-"))
	if w.as.Kind != "" {
		ctx = authn.NewContext(ctx, w.as)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://issuer"+path, in)
	if err != nil {
		w.t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Content-Type", cmp.Or(w.contentType, "application/json"))
	if w.ifMatch != "" {
		req.Header.Set("If-Match", w.ifMatch)
	}
	client := http.Client{Transport: natshttp.NewTransport(w.conn.NC)}
	resp, err := client.Do(req)
	if err != nil {
		return http.StatusServiceUnavailable, nil, []byte(err.Error())
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, text
}

// must fails the test unless the call has the status.
func (w *world) must(want int, method, operation, path string, body, into any) {
	w.t.Helper()
	status, text := w.try(method, operation, path, body)
	if status != want {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, status, want, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			w.t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
}

func (w *world) create(body any) (c issuerapi.Certificate) {
	w.t.Helper()
	w.must(http.StatusCreated, http.MethodPost, "createCertificate", "/api/v1/certificates", body, &c)
	return c
}

func (w *world) certificate(id string) (c issuerapi.Certificate) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodGet, "getCertificate", "/api/v1/certificates/"+id, nil, &c)
	return c
}

func (w *world) job(id string) (j issuerapi.Job) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodGet, "getJob", "/api/v1/jobs/"+id, nil, &j)
	return j
}

func (w *world) renew(id string, body any) (r issuerapi.RenewalTriggered) {
	w.t.Helper()
	w.must(http.StatusAccepted, http.MethodPost, "renewCertificate", "/api/v1/certificates/"+id+"/renew", body, &r)
	return r
}

// await waits until a condition holds.
func (w *world) await(what string, condition func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited %s for %s", patience, what)
		}
		<-tick.C
	}
}

// publish tells an event as another service would.
func (w *world) publish(e event.Event, version int64) {
	w.t.Helper()
	w.publishAs(id.New("ev-"), e, version)
}

func (w *world) publishAs(messageID string, e event.Event, version int64) {
	w.t.Helper()
	m := encode(w.t, messageID, e, version)
	msg, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.conn.JS.PublishMsg(w.t.Context(), msg); err != nil {
		w.t.Fatal(err)
	}
}

func encode(t testing.TB, messageID string, e event.Event, version int64) bus.Message {
	t.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	aggregate, of, _ := e.About()
	return bus.Message{
		Subject: event.Subject(e), ID: messageID, Type: event.Type(e), Source: "/certctl/deployment",
		Entity: aggregate + "/" + of, Time: clock.System.Now(), AggVersion: version, Body: body,
	}
}

// heardEvent is an event as it came.
type heardEvent struct {
	bus.Message
	event.Event
}

// recording is everything that was told on the bus.
type recording struct {
	mu     sync.Mutex
	events []heardEvent // guarded by mu
}

// listen records every event of the stream.
func (w *world) listen() *recording {
	w.t.Helper()
	r := &recording{}
	c, err := w.conn.JS.OrderedConsumer(w.t.Context(), subject.StreamEvents, jetstream.OrderedConsumerConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	running, err := c.Consume(func(m jetstream.Msg) {
		decoded, err := bus.Decode(m.Subject(), m.Headers(), m.Data())
		if err != nil {
			w.t.Errorf("event on %s: %v", m.Subject(), err)
			return
		}
		e, err := event.Decode(decoded.Type, decoded.Body)
		if err != nil {
			w.t.Errorf("event on %s: %v", m.Subject(), err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, heardEvent{decoded, e})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		running.Stop()
		<-running.Closed()
	})
	return r
}

// all returns the events of a kind that suit, in the order in which they came.
func all[E event.Event](r *recording, suits func(E) bool) []heardEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []heardEvent
	for _, h := range r.events {
		if e, ok := h.Event.(E); ok && suits(e) {
			out = append(out, h)
		}
	}
	return out
}

// asks returns the requests for keys that suit, whether they came by themselves or with that for a certificate.
func asks(r *recording, suits func(event.CertificateKeyRequested) bool) []event.CertificateKeyRequested {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []event.CertificateKeyRequested
	for _, h := range r.events {
		asked, is := h.Event.(event.CertificateKeyRequested)
		if e, ok := h.Event.(event.CertificateRequested); ok {
			asked, is = e.KeyRequested()
		}
		if is && suits(asked) {
			out = append(out, asked)
		}
	}
	return out
}

// asked waits for a request for a key that suits.
func (w *world) asked(suits func(event.CertificateKeyRequested) bool) event.CertificateKeyRequested {
	w.t.Helper()
	var found []event.CertificateKeyRequested
	w.await("a request for a key", func() bool {
		found = asks(w.heard, suits)
		return len(found) > 0
	})
	return found[0]
}

// hear waits for an event of a kind that suits.
func hear[E event.Event](w *world, suits func(E) bool) (E, heardEvent) {
	w.t.Helper()
	var found []heardEvent
	var zero E
	w.await(event.Type(zero), func() bool {
		found = all(w.heard, suits)
		return len(found) > 0
	})
	return found[0].Event.(E), found[0]
}
