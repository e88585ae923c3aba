package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
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
	}
	got := make(chan []outbox.Message, 1)
	run(t, &outbox.Relay{Pool: pool, Publish: func(_ context.Context, messages []outbox.Message) error {
		got <- messages
		return nil
	}})
	insert(t, pool, want[0], outbox.Message{ID: "b", Stream: "EVT", Subject: "shop.b"})
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

func TestRelay_RepublishesAfterCrash(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	crashed := false
	relay := &outbox.Relay{Pool: pool, Publish: func(ctx context.Context, messages []outbox.Message) error {
		if err := bus.publish(ctx, messages); err != nil || crashed {
			return err
		}
		crashed = true
		// Whoever holds the row is this relay, and loses its connection before it can mark the row.
		_, err := pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE state = 'idle in transaction' AND datname = current_database()`)
		return err
	}}
	run(t, relay)
	insert(t, pool, message("twice", "EVT"))
	eventually(t, "the row is marked as sent", func() bool { return unsent(t, pool) == 0 })
	if diff := cmp.Diff([]string{"twice", "twice"}, bus.ids()); diff != "" {
		t.Error(diff)
	}
}

func TestRelay_ManySideBySidePublishEachRowOnce(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
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
	for range 4 {
		run(t, &outbox.Relay{Pool: pool, Publish: bus.publish, Batch: 20})
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
