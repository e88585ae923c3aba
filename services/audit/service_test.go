package audit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/auditapi"
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
	"github.com/certctl/certctl/services/audit"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// world is a bus with the contract's streams and a database.
type world struct {
	*testing.T
	pool *pgxpool.Pool
	nats *natstest.Server
	conn *bus.Conn
	cfg  audit.Config
}

var sealer = secret.New(secret.Key{1})

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, pool: pgtest.New(t, migrations.FS("audit"), "audit"), nats: natstest.Start(t)}
	w.conn = w.nats.Connect(bus.Options{Name: "test"})
	streams, consumers := stream.Core()
	m := bus.Manifest{Rev: stream.Revision, Streams: streams}.Scaled(0.01)
	for _, c := range consumers {
		m.Consumers = append(m.Consumers, bus.ConsumerSpec{Stream: c.Stream, Config: c.Config})
	}
	if _, err := m.Apply(t.Context(), w.conn.JS); err != nil {
		t.Fatal(err)
	}
	return w
}

// run runs the service; the returned function ends it and waits for that.
func (w *world) run() (end func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	log := slog.New(slog.DiscardHandler)
	deps := service.Deps{
		Log: log, DB: w.pool, Bus: w.nats.Connect(bus.Options{Name: "audit"}), Metrics: obs.NewRegistry(),
		Health: health.New(log), Clock: clock.System, Sealer: sealer,
	}
	done := make(chan error, 1)
	go func() { done <- audit.Run(ctx, w.cfg, deps) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			w.Errorf("the service ended: %v", err)
		}
	}
	w.Cleanup(end)
	return end
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

// recorded verifies the chain and returns its length.
func (w *world) recorded() int64 {
	w.Helper()
	r, err := audit.Verify(w.Context(), w.pool, audit.Evidence{})
	if err != nil {
		w.Fatal(err)
	}
	return r.Events
}

// publish stores a message, as often as the server lets it.
func (w *world) publish(msg *nats.Msg) {
	w.Helper()
	if _, err := w.conn.JS.PublishMsg(w.Context(), msg); err != nil {
		w.Fatal(err)
	}
}

// fact is an event as its owner publishes it.
func (w *world) fact(e event.Event) *nats.Msg {
	w.Helper()
	aggregate, of, _ := e.About()
	body, err := json.Marshal(e)
	if err != nil {
		w.Fatal(err)
	}
	return w.encode(bus.Message{
		ID: id.New("ev-"), Subject: event.Subject(e), Type: event.Type(e), Source: "/certctl/issuer",
		Entity: aggregate + "/" + of, Time: time.Now(), Body: body,
	})
}

func (w *world) encode(m bus.Message) *nats.Msg {
	w.Helper()
	msg, err := m.Encode()
	if err != nil {
		w.Fatal(err)
	}
	return msg
}

// again is the same message in the eyes of everybody but the server, which would drop it.
func again(m *nats.Msg) *nats.Msg {
	copied := *m
	copied.Header = nats.Header{}
	for k, v := range m.Header {
		if k != nats.MsgIdHdr {
			copied.Header[k] = v
		}
	}
	return &copied
}

// ask asks the service over the bus, as the gateway does. It is nil while the service is
// not up.
func (w *world) ask(operation, path string) *http.Response {
	w.Helper()
	ctx := natshttp.WithRoute(w.Context(), natshttp.Route{Service: "audit", Operation: operation})
	ctx = authn.NewContext(ctx, authn.Principal{ID: "key-1", Kind: authn.KindUser})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://audit"+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	res, err := natshttp.NewTransport(w.conn.NC).RoundTrip(r)
	if err != nil {
		return nil
	}
	w.Cleanup(func() { res.Body.Close() })
	return res
}

func (w *world) list(query string) (auditapi.AuditEventList, bool) {
	w.Helper()
	res := w.ask("listAuditEvents", "/api/v1/audit?"+query)
	if res == nil {
		return auditapi.AuditEventList{}, false
	}
	var l auditapi.AuditEventList
	if err := json.NewDecoder(res.Body).Decode(&l); err != nil || res.StatusCode != http.StatusOK {
		w.Fatalf("status %d, %v", res.StatusCode, err)
	}
	return l, true
}

func (w *world) deadLetters() uint64 {
	w.Helper()
	s, err := w.conn.JS.Stream(w.Context(), subject.StreamDeadLetters)
	if err != nil {
		w.Fatal(err)
	}
	info, err := s.Info(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return info.State.Msgs
}

// settled tells whether the service has acknowledged everything.
func (w *world) settled() bool {
	w.Helper()
	for _, c := range [][2]string{
		{subject.StreamEvents, subject.ConsumerAuditEvents}, {subject.StreamAudit, subject.ConsumerAuditRecords},
	} {
		consumer, err := w.conn.JS.Consumer(w.Context(), c[0], c[1])
		if err != nil {
			w.Fatal(err)
		}
		info, err := consumer.Info(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		if info.NumPending > 0 || info.NumAckPending > 0 {
			return false
		}
	}
	return true
}

func TestAudit_RecordsEventsAndCallsOnceHoweverOftenTheyCome(t *testing.T) {
	w := newWorld(t)
	end := w.run()
	const events, groups, each = 300, 40, 5
	for i := range events {
		m := w.fact(event.CertificateArchived{CertificateID: fmt.Sprintf("mc-%d", i)})
		w.publish(m)
		if i%3 == 0 {
			w.publish(again(m))
		}
		if i == events/2 {
			// A restart in the middle of it: what was not acknowledged comes again.
			end()
			end = w.run()
		}
	}
	for i := range groups {
		m := w.calls(fmt.Sprintf("api-%d", i), each, "/api/v1/jobs")
		w.publish(m)
		w.publish(again(m))
	}
	w.await("everything to be on record", func() bool { return w.recorded() >= events+groups*each && w.settled() })
	if n := w.recorded(); n != events+groups*each {
		t.Errorf("%d are on record, want %d", n, events+groups*each)
	}
	l, ok := w.list("resource_type=certificate&action=certificate_archived&resource_id=mc-7")
	if !ok || l.Total != 1 || l.Data[0].Actor != "issuer" || l.Data[0].ActorType != auditapi.System {
		t.Errorf("%v %+v", ok, l)
	}
	if n := w.deadLetters(); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func (w *world) calls(messageID string, n int, path string) *nats.Msg {
	w.Helper()
	called := event.APICalled{ID: messageID}
	for i := range n {
		called.Calls = append(called.Calls, event.APICall{
			RequestID: fmt.Sprintf("%s-r%d", messageID, i), At: time.Now().UTC().Format(time.RFC3339Nano),
			Actor: "key-1", ActorType: "User", Method: http.MethodGet, Path: path, Status: http.StatusOK,
		})
	}
	body, err := json.Marshal(called)
	if err != nil {
		w.Fatal(err)
	}
	return w.encode(bus.Message{
		ID: messageID, Subject: subject.AuditRecord("api", "gateway"), Type: event.Type(called), Source: "/certctl/gateway",
		Entity: "api/" + messageID, Time: time.Now(), Body: body,
	})
}

func TestAudit_RecordsWhatItDoesNotKnowAndWhatIsMeantToHarmIt(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.publish(w.encode(bus.Message{
		ID: "ev-future", Subject: subject.Event("quorum", "reached"), Type: "certctl.quorum.reached.v3", Source: "/certctl/raft",
		Entity: "quorum/q-1", Time: time.Now(), Body: []byte(`{"members":3}`),
	}))
	w.publish(w.calls("api-nul", 1, "/a\x00b"))
	w.publish(w.calls("api-long", 1, "/"+string(make([]byte, 4000))))
	w.publish(w.encode(bus.Message{
		ID: "ev-latin", Subject: subject.Event("quorum", "lost"), Type: "certctl.quorum.lost.v1", Source: "/certctl/raft",
		Entity: "quorum/q-1", Time: time.Now(), Body: []byte("{\"by\":\"J\xfcrgen\"}"),
	}))
	w.await("the strange ones", func() bool { return w.recorded() == 4 })
	if l, _ := w.list("action=quorum_reached"); l.Total != 1 || l.Data[0].ResourceID != "q-1" {
		t.Errorf("%+v", l)
	}
}

func TestAudit_PutsWhatCannotBeReadAsideAndGoesOn(t *testing.T) {
	w := newWorld(t)
	good := func(n int) *nats.Msg {
		return w.fact(event.CertificateArchived{CertificateID: fmt.Sprintf("mc-%d", n)})
	}
	broken := good(0)
	broken.Data = []byte("{")
	w.publish(good(1))
	w.publish(broken)
	w.publish(good(2))
	// Another message with the id of a call that is on record.
	first, second := w.calls("api-1", 1, "/"), w.calls("api-1", 1, "/")
	second.Header.Set(nats.MsgIdHdr, "api-2")
	second.Header.Set("ce-id", "api-2")
	w.publish(first)
	w.publish(second)
	w.run()
	w.await("two dead letters", func() bool { return w.deadLetters() == 2 && w.settled() })
	if n := w.recorded(); n != 3 {
		t.Errorf("%d are on record, want 3", n)
	}
}

func TestAudit_LosesNothingWhileTheBusIsAway(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.publish(w.fact(event.CertificateArchived{CertificateID: "mc-1"}))
	w.await("the first", func() bool { return w.recorded() == 1 })
	w.nats.Restart()
	ready, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.conn.Ready(ready); err != nil {
		t.Fatal(err)
	}
	m := w.fact(event.CertificateArchived{CertificateID: "mc-2"})
	w.await("the bus to take another", func() bool {
		attempt, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.conn.JS.PublishMsg(attempt, m, jetstream.WithRetryAttempts(0))
		return err == nil
	})
	w.await("the second", func() bool { return w.recorded() == 2 })
}

// TestAudit_SignsCheckpointsAndExportsWhatAnOutsiderCanVerify takes the export in chunks
// over the bus: it is larger than a message.
func TestAudit_SignsCheckpointsAndExportsWhatAnOutsiderCanVerify(t *testing.T) {
	w := newWorld(t)
	w.cfg = audit.Config{AuditCheckpointEvents: 400, AuditCheckpointInterval: 24 * time.Hour}
	end := w.run()
	const groups, each = 60, 50
	for i := range groups {
		w.publish(w.calls(fmt.Sprintf("api-%d", i), each, "/api/v1/jobs"))
	}
	w.await("everything to be on record", func() bool { return w.recorded() == groups*each && w.settled() })
	end()
	// The first checkpoint is signed at once, later ones after 400 events; another start signs what is due.
	w.cfg.AuditCheckpointInterval = time.Second
	w.run()
	w.await("a checkpoint of the end", func() bool {
		r, err := audit.Verify(t.Context(), w.pool, audit.Evidence{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Signatures && r.Signed == groups*each
	})
	var key []byte
	w.await("the service", func() bool {
		res := w.ask("getAuditCheckpointKey", "/api/v1/audit/checkpoints/key")
		if res == nil {
			return false
		}
		var err error
		if key, err = io.ReadAll(res.Body); err != nil {
			t.Fatal(err)
		}
		return true
	})
	// The newest was told of, and what was told is evidence as it is.
	told := w.told(groups * each)
	for _, format := range []string{"json", "jsonl", "csv"} {
		res := w.ask("exportAuditEvents", "/api/v1/audit/export?format="+format)
		kept := w.ask("listAuditCheckpoints", "/api/v1/audit/checkpoints")
		if res == nil || kept == nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%+v", res)
		}
		checkpoints, err := io.ReadAll(kept.Body)
		if err != nil {
			t.Fatal(err)
		}
		r, err := audit.VerifyExport(res.Body, audit.Evidence{Key: key, Checkpoints: checkpoints})
		if err != nil || r.Events != groups*each || r.Checkpoints < 1 || r.Signed != groups*each {
			t.Errorf("%s: %+v, %v", format, r, err)
		}
		export := w.ask("exportAuditEvents", "/api/v1/audit/export?format="+format)
		if r, err = audit.VerifyExport(export.Body, audit.Evidence{Key: key, Checkpoints: told}); err != nil || r.Signed != groups*each {
			t.Errorf("%s, by what was told: %+v, %v", format, r, err)
		}
	}
	// A checkpoint calls for no further one.
	w.await("its own word to be passed over", w.settled)
	if n := w.recorded(); n != groups*each {
		t.Errorf("%d are on record", n)
	}
}

// told is the event of the checkpoint at a place, once it is published.
func (w *world) told(sequence int64) (body []byte) {
	w.Helper()
	stream, err := w.conn.JS.Stream(w.Context(), subject.StreamEvents)
	if err != nil {
		w.Fatal(err)
	}
	e := event.CheckpointSigned{Sequence: sequence}
	aggregate, of, _ := e.About()
	w.await(aggregate+"/"+of, func() bool {
		m, err := stream.GetLastMsgForSubject(w.Context(), event.Subject(e))
		if err != nil || m.Header.Get("ce-subject") != aggregate+"/"+of {
			return false
		}
		body = m.Data
		return true
	})
	return body
}

func TestAudit_DoesNotRunWithoutASealingKey(t *testing.T) {
	if err := audit.Run(t.Context(), audit.Config{}, service.Deps{}); err == nil {
		t.Error("it ran")
	}
}
