package record

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// world is a recorder with its bus and its outbox.
type world struct {
	*testing.T
	nats     *natstest.Server
	conn     *bus.Conn
	pool     *pgxpool.Pool
	recorder *Recorder
	relay    *outbox.Relay
	log      *lines
}

// lines is a log to look at.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer // under mu
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, nats: natstest.Start(t), pool: pgtest.New(t, migrations.FS("gateway"), "gateway"), log: &lines{}}
	w.conn = w.nats.Connect(bus.Options{Name: "gateway"})
	streams, _ := stream.Core()
	if _, err := (bus.Manifest{Rev: stream.Revision, Streams: streams}).Scaled(0.01).Apply(t.Context(), w.conn.JS); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	w.relay = w.conn.OutboxRelay(w.pool, nil)
	w.relay.Settle = 0
	w.recorder = New(w.pool, w.relay, clock.System, log)
	w.background(w.relay.Run)
	return w
}

// run runs the recorder; the returned function ends it and waits for that.
func (w *world) run() (end func()) {
	w.Helper()
	return w.background(w.recorder.Run)
}

func (w *world) background(run func(context.Context) error) (end func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	ended := false
	end = func() {
		cancel()
		if !ended {
			ended = true
			if err := <-done; err != nil {
				w.Error(err)
			}
		}
	}
	w.Cleanup(end)
	return end
}

func call(id string) event.APICall {
	return event.APICall{RequestID: id, Actor: "key-1", ActorType: "User", Method: "POST", Path: "/api/v1/certificates", Status: 201}
}

func (w *world) durable(c event.APICall) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
	defer cancel()
	if err := w.recorder.Durable(ctx, c); err != nil {
		w.Fatal(err)
	}
}

// published returns what is on the stream once nothing waits to be: the ids of calls, in
// order, and in how many messages.
func (w *world) published() (calls []event.APICall, messages int) {
	w.Helper()
	w.await("the outbox to be empty", func() bool { return w.inOutbox() == 0 })
	s, err := w.conn.JS.Stream(w.Context(), subject.StreamAudit)
	if err != nil {
		w.Fatal(err)
	}
	info, err := s.Info(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for n := uint64(1); n <= info.State.LastSeq; n++ {
		raw, err := s.GetMsg(w.Context(), n)
		if err != nil {
			w.Fatal(err)
		}
		m, err := bus.Decode(raw.Subject, raw.Header, raw.Data)
		if err != nil || m.Type != event.Type(event.APICalled{}) || m.Subject != subject.AuditRecord("api", "gateway") {
			w.Fatalf("%+v, %v", m, err)
		}
		var called event.APICalled
		if err := json.Unmarshal(m.Body, &called); err != nil {
			w.Fatal(err)
		}
		calls = append(calls, called.Calls...)
	}
	return calls, int(info.State.Msgs)
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

func (w *world) inOutbox() (n int) {
	w.Helper()
	if err := w.pool.QueryRow(w.Context(), `SELECT count(*) FROM outbox_queue`).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

func TestDurable_ReturnsWhenTheCallIsInTheOutbox(t *testing.T) {
	w := newWorld(t)
	w.run()
	before := time.Now().Add(-time.Second)
	w.durable(call("r-1"))
	var n int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&n); err != nil || n != 1 {
		t.Fatalf("%d messages are stored, %v", n, err)
	}
	calls, _ := w.published()
	if len(calls) != 1 || calls[0].RequestID != "r-1" || calls[0].Status != 201 {
		t.Fatalf("published are %+v", calls)
	}
	if at, err := time.Parse(time.RFC3339Nano, calls[0].At); err != nil || at.Before(before) || at.Location() != time.UTC {
		t.Errorf("it is said to have been at %s, %v", calls[0].At, err)
	}
}

func TestDurable_GathersCallsThatEndTogether(t *testing.T) {
	w := newWorld(t)
	const n = 1000
	var stored sync.WaitGroup
	for i := range n {
		stored.Go(func() { w.durableOrLog(call(fmt.Sprintf("r-%d", i))) })
	}
	w.await("all to wait", func() bool { return len(w.recorder.waiting) == n })
	w.run()
	stored.Wait()
	calls, messages := w.published()
	if len(calls) != n || messages > n/50 {
		t.Errorf("%d calls in %d messages", len(calls), messages)
	}
}

func (w *world) durableOrLog(c event.APICall) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.Context()), patience)
	defer cancel()
	if err := w.recorder.Durable(ctx, c); err != nil {
		w.Error(err)
	}
}

func TestRecorder_KeepsCallsWhileTheBusIsAwayAndPublishesThemOnce(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.durable(call("before"))
	w.nats.Stop()
	w.await("the connection to be down", func() bool { return !w.conn.NC.IsConnected() })
	for i := range 5 {
		w.durable(call(fmt.Sprintf("during-%d", i)))
	}
	if n := w.inOutbox(); n == 0 {
		t.Error("nothing waits in the outbox")
	}
	w.nats.Restart()
	w.durable(call("after"))
	calls, _ := w.published()
	seen := map[string]int{}
	for _, c := range calls {
		seen[c.RequestID]++
	}
	if len(calls) != 7 || len(seen) != 7 {
		t.Errorf("published are %v", seen)
	}
}

func TestDurable_SaysSoWhenTheDatabaseIsAway(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := w.recorder.Durable(ctx, call("r-1"))
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "outbox") {
		t.Errorf("got %v", err)
	}
	if w.log.count("not on record") != 1 {
		t.Error("the log does not say so")
	}
}

func TestBackground_DropsReadsWhenTooManyWaitAndSaysSo(t *testing.T) {
	w := newWorld(t)
	for i := range backlog + 3 {
		w.recorder.Background(call(fmt.Sprintf("read-%d", i)))
	}
	if n := w.log.count("a read went unrecorded"); n != 3 {
		t.Errorf("%d warnings", n)
	}
	// A change waits for its turn, and no longer than its caller does.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.recorder.Durable(ctx, call("change")); err == nil {
		t.Error("a change was said to be on record that nobody took")
	}
	var stored sync.WaitGroup
	stored.Go(func() { w.durableOrLog(call("patient change")) })
	w.run()
	stored.Wait()
	calls, _ := w.published()
	if len(calls) != backlog+1 || calls[backlog].RequestID != "patient change" {
		t.Errorf("%d calls are on record", len(calls))
	}
}

func TestRun_StoresWhatWaitsBeforeItEnds(t *testing.T) {
	w := newWorld(t)
	const n = 350
	for i := range n {
		w.recorder.Background(call(fmt.Sprintf("r-%d", i)))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.recorder.Run(ended); err != nil {
		t.Fatal(err)
	}
	if calls, _ := w.published(); len(calls) != n {
		t.Errorf("%d of %d calls are on record", len(calls), n)
	}
}

// TestRecorder_FitsWhatCallersSendIntoMessages: one caller's strange requests must not
// make a message too large, with the calls of others in it.
func TestRecorder_FitsWhatCallersSendIntoMessages(t *testing.T) {
	w := newWorld(t)
	const n = 500
	for i := range n {
		c := call(fmt.Sprintf("r-%d", i))
		c.Path = "/" + strings.Repeat("\x00<\u2028\xff", 2000)
		c.Method = strings.Repeat("M", 60_000)
		w.recorder.Background(c)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.recorder.Run(ended); err != nil {
		t.Fatal(err)
	}
	calls, _ := w.published()
	if len(calls) != n || w.inOutbox() != 0 {
		t.Errorf("%d calls are on record, %d messages were not taken", len(calls), w.inOutbox())
	}
	s, err := w.conn.JS.Stream(t.Context(), subject.StreamAudit)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().Config.MaxMsgSize; got != 256<<10 {
		t.Errorf("the stream takes messages of %d bytes, the recorder counts on 256 KiB", got)
	}
}

func TestCut_EndsAtACharacter(t *testing.T) {
	for _, c := range []struct {
		in, want string
		n        int
	}{{"abc", "abc", 3}, {"abcd", "abc", 3}, {"aü", "a", 2}, {"€€", "€", 5}, {"€", "", 2}, {"", "", 0}, {"\xff\xff\xff", "\xff\xff", 2}, {strings.Repeat("\x80", 9), strings.Repeat("\x80", 4), 8}} {
		got := cut(c.in, c.n)
		if got != c.want || utf8.ValidString(c.in) && !utf8.ValidString(got) {
			t.Errorf("cut(%q, %d) = %q", c.in, c.n, got)
		}
	}
}
