package bustest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/certctl/certctl/libs/bus"
)

func TestConsumer_GoesOnAfterAServerRestart(t *testing.T) {
	// What was on its way when the server went comes again when the server has waited for its acknowledgement in vain.
	r := newRig(t, func(c *jetstream.ConsumerConfig) { c.AckWait = time.Second })
	r.consume(spec(), record)
	r.publish(1, 20)
	for round := range 3 {
		r.server.Restart()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := r.conn.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		r.publish(21+20*round, 40+20*round)
		r.settledAll()
	}
	got := r.effects()
	slices.Sort(got)
	if diff := cmp.Diff(ids(1, 80), got); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestConsumer_WaitsForAConsumerThatIsCreatedLate(t *testing.T) {
	r := newRig(t)
	if err := r.conn.JS.DeleteConsumer(t.Context(), stream, durable); err != nil {
		t.Fatal(err)
	}
	rebinds := prometheus.NewRegistry()
	r.consumeOn(r.server.Connect(bus.Options{Metrics: rebinds}), spec(), record)
	eventually(t, "the missing consumer is noticed", func() bool { return counter(t, rebinds, "certctl_bus_rebinds_total") > 0 })
	r.publish(1, 5)
	r.createConsumer()
	r.settledAll()
	if diff := cmp.Diff(ids(1, 5), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestConsumer_GoesOnWhenItsConsumerIsMadeAnew(t *testing.T) {
	r := newRig(t)
	r.consume(spec(), record)
	r.publish(1, 5)
	r.settledAll()
	if err := r.conn.JS.DeleteConsumer(t.Context(), stream, durable); err != nil {
		t.Fatal(err)
	}
	r.publish(6, 10)
	r.createConsumer() // it delivers the stream from its beginning
	r.settledAll()
	if diff := cmp.Diff(ids(1, 10), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestConsumer_BindsAgainWhenItHearsNothing(t *testing.T) {
	r := newRig(t)
	metrics := prometheus.NewRegistry()
	s := spec()
	s.Silence = 300 * time.Millisecond
	if _, err := r.conn.JS.PauseConsumer(t.Context(), stream, durable, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	r.publish(1, 3)
	r.consumeOn(r.server.Connect(bus.Options{Metrics: metrics}), s, record)
	eventually(t, "the silence is noticed", func() bool { return counter(t, metrics, "certctl_bus_rebinds_total") > 0 })
	if _, err := r.conn.JS.ResumeConsumer(t.Context(), stream, durable); err != nil {
		t.Fatal(err)
	}
	r.settledAll()
	if diff := cmp.Diff(ids(1, 3), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestConsumer_FinishesItsBatchAndGivesBackTheRestWhenStopped(t *testing.T) {
	r := newRig(t)
	entered, release := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	returned := make(chan error, 1)
	s := spec()
	s.Batch = 10
	r.publish(1, 30)
	go func() {
		returned <- r.conn.Consume(ctx, s, r.pool, func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
			entered <- struct{}{}
			<-release
			return record(ctx, tx, batch)
		})
	}()
	<-entered
	cancel()
	select {
	case err := <-returned:
		t.Fatalf("Consume left its batch: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if err := <-returned; err != nil {
		t.Fatal(err)
	}
	finished := len(r.effects())
	if finished == 0 || finished > 10 {
		t.Errorf("%d messages were finished", finished)
	}
	begun := time.Now()
	r.consume(spec(), record)
	r.settledAll()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the rest came after %s, when the server gave up waiting", took)
	}
	if n := len(r.effects()); n != 30 {
		t.Errorf("%d effects", n)
	}
}

// valve is a way to Postgres that can be shut.
type valve struct {
	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

func (v *valve) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("valve is shut")}
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		v.conns[c] = true
	}
	return c, err
}

func (v *valve) set(shut bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = shut
	if shut {
		for c := range v.conns {
			c.Close()
		}
		clear(v.conns)
	}
}

func TestConsumer_KeepsMessagesWhileTheDatabaseIsAway(t *testing.T) {
	r := newRig(t)
	v := &valve{conns: map[net.Conn]bool{}}
	config := r.pool.Config()
	config.ConnConfig.DialFunc = v.dial
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	var inHandler atomic.Bool
	consumeFrom(t, r.conn, pool, spec(), func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
		if inHandler.CompareAndSwap(false, true) {
			v.set(true) // the database goes in the middle of a batch
		}
		for _, m := range batch {
			if m.Delivered != 1 {
				t.Errorf("%s was delivered %d times", m.ID, m.Delivered)
			}
		}
		return record(ctx, tx, batch)
	})
	r.publish(1, 20)
	eventually(t, "the handler runs", inHandler.Load)
	r.publish(21, 30)
	v.set(false)
	r.settledAll()
	if diff := cmp.Diff(ids(1, 30), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if n := len(r.deadLetters()); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// counter returns the sum of a counter over its labels.
func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	var sum float64
	each(t, reg, name, func(m *dto.Metric) { sum += m.GetCounter().GetValue() })
	return sum
}

func each(t *testing.T, reg *prometheus.Registry, name string, f func(*dto.Metric)) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				f(m)
			}
		}
	}
}
