package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
)

var errAway = fault.New(fault.Unavailable, "no bus")

func TestRelay_PublishesWhatWasInserted(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	want := []outbox.Message{
		message("a", "EVT"),
		{ID: "b", Stream: "EVT", Subject: "shop.b", Header: map[string][]string{}, Body: []byte{}},
		{ID: "c", Stream: "EVT", Subject: "shop.c", Header: map[string][]string{"said": {`"<ü>\`, "\ufffd"}, "twice": {"1", "2"}}, Body: []byte{0xff}},
	}
	got := make(chan []outbox.Message, 1)
	run(t, &outbox.Relay{Pool: pool, Publish: func(_ context.Context, messages []outbox.Message) error {
		got <- messages
		return nil
	}})
	insert(t, pool, want[0], outbox.Message{ID: "b", Stream: "EVT", Subject: "shop.b"}, outbox.Message{
		ID: "c", Stream: "EVT", Subject: "shop.c", Header: map[string][]string{"said": {`"<ü>\`, "\xff"}, "twice": {"1", "2"}}, Body: []byte{0xff},
	})
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
	eventually(t, "rows are marked as sent", func() bool { return unsent(t, pool) == 0 })
}

func TestRelay_PublishesAtOnceWhenWoken(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	relay := &outbox.Relay{Pool: pool, Publish: bus.publish, Sweep: time.Hour}
	run(t, relay)
	for i := range 5 {
		insert(t, pool, message(fmt.Sprint(i), "EVT"))
		relay.Wake()
		eventually(t, "the message is published", func() bool { return len(bus.ids()) == i+1 })
	}
}

func TestRelay_NeverPublishesWhatWasRolledBack(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	run(t, &outbox.Relay{Pool: pool, Publish: bus.publish})
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		return errors.Join(outbox.Insert(t.Context(), tx, message("never", "EVT")), errors.New("no"))
	})
	if err == nil {
		t.Fatal("committed")
	}
	insert(t, pool, message("after", "EVT"))
	eventually(t, "the later message is published", func() bool { return len(bus.ids()) > 0 })
	if diff := cmp.Diff([]string{"after"}, bus.ids()); diff != "" {
		t.Error(diff)
	}
}

// settles is a relay to a bus that has to run on for an hour until it has synced.
func settles(pool *pgxpool.Pool, bus *stream, server func() string) *outbox.Relay {
	return &outbox.Relay{Pool: pool, Publish: bus.publish, Settle: time.Hour, Server: server}
}

func TestRelay_PublishesAgainWhatADeadOneHasNotNoted(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	insert(t, pool, message("twice", "EVT"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, settles(pool, bus, nil).Run(ended))
	if n := unsent(t, pool); n != 1 || bus.count() != 1 {
		t.Fatalf("%d rows in the queue and %d published, want one each", n, bus.count())
	}
	run(t, &outbox.Relay{Pool: pool, Publish: bus.publish})
	eventually(t, "the row has left the queue", func() bool { return unsent(t, pool) == 0 })
	if diff := cmp.Diff([]string{"twice", "twice"}, bus.ids()); diff != "" {
		t.Error(diff)
	}
}

func TestRelay_PublishesAgainWhatAServerMayHaveLost(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	var server atomic.Pointer[string]
	name := func(s string) { server.Store(&s) }
	name("first")
	relay := settles(pool, bus, func() string { return *server.Load() })
	relay.Settle = 200 * time.Millisecond
	run(t, relay)
	insert(t, pool, message("kept", "EVT"))
	eventually(t, "it has settled", func() bool { return bus.count() == 1 && unsent(t, pool) == 0 })

	insert(t, pool, message("lost", "EVT"))
	eventually(t, "it is published", func() bool { return bus.count() == 2 })
	name("") // away, and nothing settles
	name("second")
	eventually(t, "it is published again, and settles", func() bool { return bus.count() == 3 && unsent(t, pool) == 0 })
	if diff := cmp.Diff([]string{"kept", "lost", "lost"}, bus.ids()); diff != "" {
		t.Error(diff)
	}
}

func TestRelay_LetsNothingSettleWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	var asked atomic.Int64
	relay := settles(pool, bus, func() string {
		asked.Add(1)
		return ""
	})
	relay.Settle = time.Millisecond
	run(t, relay)
	insert(t, pool, message("a", "EVT"))
	eventually(t, "it is published", func() bool { return bus.count() == 1 })
	n := asked.Load()
	eventually(t, "the relay has looked several times more", func() bool { return asked.Load() > n+3 })
	if n := unsent(t, pool); n != 1 {
		t.Errorf("%d rows in the queue", n)
	}
}

func TestRelay_ManySideBySidePublishEachRowOnce(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	var at sync.Map // relays that have taken over what others had claimed
	for i := range 4 {
		run(t, &outbox.Relay{Pool: pool, Publish: bus.publish, Batch: 20, Server: func() string {
			at.Store(i, true)
			return "bus"
		}})
	}
	eventually(t, "all run", func() bool {
		n := 0
		at.Range(func(any, any) bool { n++; return true })
		return n == 4
	})
	var want []string
	for i := range 2000 {
		want = append(want, fmt.Sprintf("m%04d", i))
		if len(want)%100 == 0 {
			var batch []outbox.Message
			for _, id := range want[len(want)-100:] {
				batch = append(batch, message(id, "EVT"))
			}
			insert(t, pool, batch...)
		}
	}
	eventually(t, "all rows are sent", func() bool { return unsent(t, pool) == 0 })
	if diff := cmp.Diff(want, bus.ids()); diff != "" {
		t.Error(diff)
	}
}

func TestRelay_TakesOnlyItsOwnStreams(t *testing.T) {
	t.Parallel()
	pool, evt, agent := newPool(t), &stream{}, &stream{}
	registry := prometheus.NewRegistry()
	run(t, &outbox.Relay{Pool: pool, Publish: evt.publish, Streams: []string{"EVT", "AUDIT"}, Metrics: registry})
	run(t, &outbox.Relay{Pool: pool, Publish: agent.publish, Streams: []string{"AGENT_CMD"}, Metrics: registry})
	insert(t, pool, message("e", "EVT"), message("c", "AGENT_CMD"), message("a", "AUDIT"))
	eventually(t, "all rows are sent", func() bool { return unsent(t, pool) == 0 })
	if diff := cmp.Diff([][]string{{"a", "e"}, {"c"}}, [][]string{evt.ids(), agent.ids()}); diff != "" {
		t.Error(diff)
	}
	if got := metric(t, registry, "certctl_outbox_published_total"); got != 3 {
		t.Errorf("%v messages counted, want 3", got)
	}
}

func TestRelay_FindsARowThatCommittedLate(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	relay := &outbox.Relay{Pool: pool, Publish: bus.publish}
	run(t, relay)
	late, err := pool.Begin(t.Context())
	must(t, err)
	must(t, outbox.Insert(t.Context(), late, message("late", "EVT")))
	for i := range 3 {
		insert(t, pool, message(fmt.Sprint(i), "EVT"))
		relay.Wake()
		eventually(t, "the others are published", func() bool { return len(bus.ids()) == i+1 })
	}
	must(t, late.Commit(t.Context()))
	eventually(t, "the late one is published", func() bool { return slices.Contains(bus.ids(), "late") })
}

func TestRelay_PublishesWhatIsLeftWhenItIsStopped(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	insert(t, pool, message("a", "EVT"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	relay := &outbox.Relay{Pool: pool, Publish: bus.publish, Log: slog.New(slog.DiscardHandler)}
	must(t, relay.Run(ctx))
	if n := unsent(t, pool); n != 0 {
		t.Errorf("%d rows left", n)
	}
}

func TestRelay_TellsTheAgeOfTheOldestUnsentRow(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	bus.setRefuse(func([]outbox.Message) error { return errAway })
	insert(t, pool, message("a", "EVT"))
	_, err := pool.Exec(t.Context(), "UPDATE outbox SET created_at = now() - interval '1 hour'")
	must(t, err)
	registry := prometheus.NewRegistry()
	run(t, &outbox.Relay{Pool: pool, Publish: bus.publish, Metrics: registry})
	eventually(t, "an age of an hour", func() bool {
		return metric(t, registry, "certctl_outbox_unsent_age_seconds") >= 3600
	})
	bus.setRefuse(nil)
	eventually(t, "no age", func() bool { return metric(t, registry, "certctl_outbox_unsent_age_seconds") == 0 })
}

// metric returns the sum of a metric over its labels.
func metric(t *testing.T, from prometheus.Gatherer, name string) (sum float64) {
	t.Helper()
	families, err := from.Gather()
	must(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
