// Package bustest holds the tests of libs/bus against a real NATS server and a real Postgres, which that module itself
// must not depend on.
package bustest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

var schema = fstest.MapFS{"0001_test.sql": {Data: []byte(`-- +goose Up
CREATE TABLE inbox (consumer text NOT NULL, msg_id text NOT NULL, received_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (consumer, msg_id));
CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, msg_id text NOT NULL, version bigint NOT NULL);
`)}}

const (
	stream  = "EVT"
	durable = "issuer-evt"
)

// rig is a server with the streams and one consumer, and a database.
type rig struct {
	t      *testing.T
	server *natstest.Server
	conn   *bus.Conn
	pool   *pgxpool.Pool
}

func newRig(t *testing.T, change ...func(*jetstream.ConsumerConfig)) *rig {
	t.Helper()
	r := &rig{t: t, server: natstest.Start(t), pool: pgtest.New(t, schema, "bustest")}
	r.conn = r.server.Connect(bus.Options{})
	r.createStreams(r.conn.JS)
	r.createConsumer(change...)
	return r
}

func streamConfig(name, subjects string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Subjects: []string{subjects}, MaxBytes: 64 << 20, MaxConsumers: 16,
		AllowDirect: true, Duplicates: 10 * time.Minute,
	}
}

func (r *rig) createStreams(js jetstream.JetStream) {
	r.t.Helper()
	for name, subjects := range map[string]string{stream: "certctl.evt.>", "DLQ": "certctl.dlq.>"} {
		if _, err := js.CreateStream(r.t.Context(), streamConfig(name, subjects)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) createConsumer(change ...func(*jetstream.ConsumerConfig)) {
	r.t.Helper()
	c := jetstream.ConsumerConfig{
		Durable: durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second,
		MaxDeliver: 12, MaxAckPending: 128,
	}
	for _, f := range change {
		f(&c)
	}
	if _, err := r.conn.JS.CreateConsumer(r.t.Context(), stream, c); err != nil {
		r.t.Fatal(err)
	}
}

func event(n int) bus.Message {
	return bus.Message{
		Subject: "certctl.evt.certificate.mc-1.issued", ID: fmt.Sprintf("ev-%04d", n), Type: "certctl.certificate.issued.v1",
		Source: "/certctl/issuer", Entity: "certificate/mc-1", Time: time.Unix(1_800_000_000, 0).UTC(),
		AggVersion: int64(n), Body: []byte(`{}`),
	}
}

// publish stores the events from to to, in this order.
func (r *rig) publish(from, to int) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for n := from; n <= to; n++ {
		m := event(n)
		msg, err := m.Encode()
		if err != nil {
			r.t.Fatal(err)
		}
		// What went out as the server ended is lost without an answer; a publisher says it again under the same id.
		for _, err = r.conn.JS.PublishMsg(r.t.Context(), msg); err != nil; _, err = r.conn.JS.PublishMsg(r.t.Context(), msg) {
			if time.Now().After(deadline) {
				r.t.Fatal(err)
			}
		}
	}
}

// publishUnknown stores an event that the server takes for a new one. It forgets its window with the stream's state, as
// after a restart that is too long; consumers do not.
func (r *rig) publishUnknown(n int) {
	r.t.Helper()
	m := event(n)
	msg, err := m.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	msg.Header.Del("Nats-Msg-Id")
	if _, err := r.conn.JS.PublishMsg(r.t.Context(), msg); err != nil {
		r.t.Fatal(err)
	}
}

// record is the effect of a batch.
func record(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
	for _, m := range batch {
		if _, err := tx.Exec(ctx, `INSERT INTO effect (msg_id, version) VALUES ($1, $2)`, m.ID, m.AggVersion); err != nil {
			return err
		}
	}
	return nil
}

func spec() bus.Spec {
	return bus.Spec{
		Stream: stream, Durable: durable, DLQSubject: "certctl.dlq.issuer.issuer-evt",
		Retry: retry.Policy{Base: 5 * time.Millisecond, Cap: 20 * time.Millisecond},
	}
}

// consume runs a consumer until the returned function is called, or the test ends.
func (r *rig) consume(s bus.Spec, h bus.Handler) (stop func()) {
	r.t.Helper()
	return r.consumeOn(r.conn, s, h)
}

func (r *rig) consumeOn(conn *bus.Conn, s bus.Spec, h bus.Handler) (stop func()) {
	return consumeFrom(r.t, conn, r.pool, s, h)
}

func consumeFrom(t *testing.T, conn *bus.Conn, pool *pgxpool.Pool, s bus.Spec, h bus.Handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := conn.Consume(ctx, s, pool, h); err != nil {
			t.Errorf("Consume: %v", err)
		}
	}()
	stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Consume does not return")
		}
	}
	t.Cleanup(stop)
	return stop
}

// effects returns the ids of the effects in their order.
func (r *rig) effects() []string {
	r.t.Helper()
	rows, err := r.pool.Query(r.t.Context(), `SELECT msg_id FROM effect ORDER BY id`)
	if err != nil {
		r.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.t.Fatal(err)
	}
	return ids
}

func ids(from, to int) []string {
	var s []string
	for n := from; n <= to; n++ {
		s = append(s, event(n).ID)
	}
	return s
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// settledAll waits until the server holds nothing for the consumer any more.
func (r *rig) settledAll() *jetstream.ConsumerInfo {
	r.t.Helper()
	var info *jetstream.ConsumerInfo
	eventually(r.t, "all messages are settled", func() bool {
		c, err := r.conn.JS.Consumer(r.t.Context(), stream, durable)
		if err != nil {
			return false
		}
		s, err := r.conn.JS.Stream(r.t.Context(), stream)
		if err != nil {
			return false
		}
		info = c.CachedInfo()
		return info.NumPending == 0 && info.NumAckPending == 0 && info.AckFloor.Stream >= s.CachedInfo().State.LastSeq
	})
	return info
}

// deadLetters returns what is in the stream of dead letters.
func (r *rig) deadLetters() []*jetstream.RawStreamMsg {
	r.t.Helper()
	s, err := r.conn.JS.Stream(r.t.Context(), "DLQ")
	if err != nil {
		r.t.Fatal(err)
	}
	var letters []*jetstream.RawStreamMsg
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq && s.CachedInfo().State.Msgs > 0; seq++ {
		m, err := s.GetMsg(r.t.Context(), seq)
		if err != nil {
			r.t.Fatal(err)
		}
		letters = append(letters, m)
	}
	return letters
}

func joined(s []string) string { return strings.Join(s, " ") }
