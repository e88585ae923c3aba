package bustest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
)

func TestConsumer_HandlesWhatWaitsInOneTransaction(t *testing.T) {
	r := newRig(t)
	r.publish(1, 150)
	var batches []int
	var committed atomic.Int32
	s := spec()
	s.Batch = 50
	s.Committed = func() { committed.Add(1) }
	r.consume(s, func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
		batches = append(batches, len(batch))
		return record(ctx, tx, batch)
	})
	r.settledAll()
	if diff := cmp.Diff(ids(1, 150), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if len(batches) > 20 {
		t.Errorf("150 waiting messages took %d transactions: %v", len(batches), batches)
	}
	if n := int(committed.Load()); n != len(batches) {
		t.Errorf("Committed was called %d times for %d commits", n, len(batches))
	}
}

func TestConsumer_HandlesALoneMessageAtOnce(t *testing.T) {
	r := newRig(t)
	handled := make(chan time.Time, 1)
	s := spec()
	s.Committed = func() { handled <- time.Now() }
	r.consume(s, record)
	var total time.Duration
	for n := 1; n <= 20; n++ {
		begun := time.Now()
		r.publish(n, n)
		total += (<-handled).Sub(begun)
	}
	if mean := total / 20; mean > 50*time.Millisecond {
		t.Errorf("from publish to commit takes %s", mean)
	}
	r.settledAll()
}

func TestConsumer_HasTheEffectOfADuplicateOnce(t *testing.T) {
	r := newRig(t)
	var calls atomic.Int32
	r.consume(spec(), func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
		calls.Add(int32(len(batch)))
		return record(ctx, tx, batch)
	})
	r.publish(1, 5)
	r.settledAll()
	for range 3 {
		r.publishUnknown(3)
	}
	r.publish(6, 6)
	if info := r.settledAll(); info.Delivered.Stream != 9 {
		t.Errorf("delivered up to %d, want 9", info.Delivered.Stream)
	}
	if diff := cmp.Diff(ids(1, 6), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if n := calls.Load(); n != 6 {
		t.Errorf("handler got %d messages", n)
	}
}

func TestConsumer_ThatIsIdempotentIsGivenADuplicateAndKeepsNoInbox(t *testing.T) {
	r := newRig(t)
	s := spec()
	s.Idempotent = true
	var calls atomic.Int32
	r.consume(s, func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
		calls.Add(int32(len(batch)))
		for _, m := range batch {
			if _, err := tx.Exec(ctx, `INSERT INTO effect (msg_id, version) SELECT $1, $2
				WHERE NOT EXISTS (SELECT FROM effect WHERE msg_id = $1)`, m.ID, m.AggVersion); err != nil {
				return err
			}
		}
		return nil
	})
	r.publish(1, 3)
	r.settledAll()
	r.publishUnknown(2)
	r.settledAll()
	if diff := cmp.Diff(ids(1, 3), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if n := calls.Load(); n != 4 {
		t.Errorf("handler got %d messages", n)
	}
	var claimed int
	if err := r.pool.QueryRow(t.Context(), `SELECT count(*) FROM inbox`).Scan(&claimed); err != nil || claimed != 0 {
		t.Errorf("%d rows in the inbox, %v; want none", claimed, err)
	}
}

func TestConsumer_HasTheEffectOnceWhenItDiesBetweenCommitAndAck(t *testing.T) {
	r := newRig(t, func(c *jetstream.ConsumerConfig) { c.AckWait = time.Second })
	r.publish(1, 10)
	doomed := r.server.Connect(bus.Options{})
	died := make(chan struct{})
	s := spec()
	s.Committed = sync.OnceFunc(func() {
		doomed.NC.Close()
		close(died)
	})
	stop := r.consumeOn(doomed, s, record)
	<-died
	stop()
	r.consume(spec(), record)
	if info := r.settledAll(); info.NumRedelivered != 0 {
		t.Errorf("%d messages are still to be redelivered", info.NumRedelivered)
	}
	if diff := cmp.Diff(ids(1, 10), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestConsumer_TriesAFailedMessageAgainAndTheOthersNot(t *testing.T) {
	r := newRig(t)
	r.publish(1, 10)
	var tries atomic.Int32
	r.consume(spec(), func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
		if err := record(ctx, tx, batch); err != nil {
			return err
		}
		for _, m := range batch {
			if m.ID == event(4).ID && m.Delivered < 3 {
				tries.Add(1)
				return fault.New(fault.Unavailable, "not yet")
			}
		}
		return nil
	})
	r.settledAll()
	got := r.effects()
	if last := got[len(got)-1]; last != event(4).ID {
		t.Errorf("last effect is of %s", last)
	}
	slices.Sort(got)
	if diff := cmp.Diff(ids(1, 10), got); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if len(r.deadLetters()) != 0 {
		t.Error("a message that succeeded in the end is a dead letter")
	}
}

func TestConsumer_SaysWhenARedeliveredMessageIsOld(t *testing.T) {
	r := newRig(t)
	var latest int64 // of the handler, as a row of the aggregate would hold it
	var dropped []string
	r.consume(spec(), func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
		if !slices.IsSortedFunc(batch, func(a, b bus.Message) int { return int(a.Sequence) - int(b.Sequence) }) {
			t.Errorf("batch is not in the order of its stream: %v", batch)
		}
		for _, m := range batch {
			switch {
			case m.AggVersion == 1 && m.Delivered == 1:
				return fault.New(fault.Unavailable, "not now")
			case m.AggVersion < latest:
				dropped = append(dropped, m.ID)
			default:
				latest = m.AggVersion
				if err := record(ctx, tx, []bus.Message{m}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	r.publish(1, 1)
	r.publish(2, 20)
	r.settledAll()
	if len(dropped) > 0 && joined(dropped) != event(1).ID {
		t.Errorf("dropped as old: %v", dropped)
	}
	if latest != 20 {
		t.Errorf("latest version is %d", latest)
	}
}

func TestConsumer_SlowHandlerKeepsItsMessages(t *testing.T) {
	r := newRig(t, func(c *jetstream.ConsumerConfig) { c.AckWait = 600 * time.Millisecond })
	var calls atomic.Int32
	r.consume(spec(), func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
		if calls.Add(1) == 1 {
			<-time.After(2500 * time.Millisecond) // four times as long as the server waits unasked
		}
		for _, m := range batch {
			if m.Delivered != 1 {
				t.Errorf("%s was delivered %d times", m.ID, m.Delivered)
			}
		}
		return record(ctx, tx, batch)
	})
	r.publish(1, 1)
	eventually(t, "the handler runs", func() bool { return calls.Load() > 0 })
	r.publish(2, 40) // these wait behind it
	r.settledAll()
	if diff := cmp.Diff(ids(1, 40), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestConsumer_ReplicasShareTheWork(t *testing.T) {
	r := newRig(t)
	var by [2]atomic.Int32
	for i := range by {
		r.consumeOn(r.server.Connect(bus.Options{}), spec(), func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
			by[i].Add(int32(len(batch)))
			return record(ctx, tx, batch)
		})
	}
	r.publish(1, 1000)
	r.settledAll()
	got := r.effects()
	slices.Sort(got)
	if diff := cmp.Diff(ids(1, 1000), got); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if by[0].Load() == 0 || by[1].Load() == 0 {
		t.Errorf("one replica did all: %d and %d", by[0].Load(), by[1].Load())
	}
}

func TestConsumer_RefusesASpecThatCannotWork(t *testing.T) {
	r := newRig(t)
	s := spec()
	s.DLQSubject = ""
	if err := r.conn.Consume(t.Context(), s, r.pool, record); err == nil {
		t.Error("a consumer without dead letters was accepted")
	}
}
