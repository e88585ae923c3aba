package bustest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

// publisherRig is a server with the streams, and no database.
func publisherRig(t testing.TB, o bus.Options, options ...natstest.Option) (*natstest.Server, *bus.Conn) {
	t.Helper()
	s := natstest.Start(t, options...)
	conn := s.Connect(o)
	if _, err := conn.JS.CreateStream(t.Context(), streamConfig(stream, "certctl.evt.>")); err != nil {
		t.Fatal(err)
	}
	return s, conn
}

func stored(t testing.TB, conn *bus.Conn) jetstream.StreamState {
	t.Helper()
	s, err := conn.JS.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State
}

// publishAll publishes events from so many goroutines at once and fails the test at the first error.
func publishAll(t testing.TB, p *bus.Publisher, events, goroutines int) {
	t.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	for range goroutines {
		wg.Go(func() {
			for n := range next {
				if err := p.Publish(t.Context(), event(n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range events {
		next <- n
	}
	close(next)
	wg.Wait()
}

func TestPublisher_SharesWritesAmongWaitingCallers(t *testing.T) {
	metrics := prometheus.NewRegistry()
	_, conn := publisherRig(t, bus.Options{Metrics: metrics}, natstest.SyncAlways)
	publishAll(t, conn.NewPublisher(stream), 1280, 64)
	if n := stored(t, conn).Msgs; n != 1280 {
		t.Errorf("%d messages are stored", n)
	}
	var writes uint64
	each(t, metrics, "certctl_bus_published_batch_size", func(m *dto.Metric) { writes = m.GetHistogram().GetSampleCount() })
	if writes == 0 || writes > 1280/8 {
		t.Errorf("1280 messages of 64 callers took %d writes", writes)
	}
}

func TestPublisher_StoresAMessageOnceWithinTheDedupeWindow(t *testing.T) {
	_, conn := publisherRig(t, bus.Options{})
	p := conn.NewPublisher(stream)
	for range 3 {
		publishAll(t, p, 100, 1)
		publishAll(t, p, 100, 32) // in batches, which the server refuses as a whole
	}
	publishAll(t, p, 150, 32) // some known, some new, in the same batches
	if n := stored(t, conn).Msgs; n != 150 {
		t.Errorf("%d messages are stored, want 150", n)
	}
}

func TestPublisher_TellsWhatCannotBeSent(t *testing.T) {
	_, conn := publisherRig(t, bus.Options{})
	p := conn.NewPublisher(stream)
	large := event(1)
	large.Body = make([]byte, 2<<20)
	if err := p.Publish(t.Context(), large); fault.CodeOf(err) != fault.TooLarge {
		t.Errorf("large message: %v", err)
	}
	elsewhere := event(2)
	elsewhere.Subject = "certctl.nowhere"
	if err := p.Publish(t.Context(), elsewhere); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("no stream for the subject: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Publish(ended, event(3)); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("caller that has gone: %v", err)
	}
	if n := stored(t, conn).Msgs; n != 0 {
		t.Errorf("%d messages are stored", n)
	}
}

func TestPublisher_OneRefusedMessageDoesNotTakeOthersWithIt(t *testing.T) {
	_, conn := publisherRig(t, bus.Options{})
	config := streamConfig(stream, "certctl.evt.>")
	config.MaxMsgSize = 4096
	if _, err := conn.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	p := conn.NewPublisher(stream)
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			m := event(n)
			if n == 50 {
				m.Body = make([]byte, 8192)
			}
			err := p.Publish(t.Context(), m)
			if (err != nil) != (n == 50) || fault.CodeOf(err) == fault.Unavailable {
				t.Errorf("message %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	if n := stored(t, conn).Msgs; n != 99 {
		t.Errorf("%d messages are stored", n)
	}
}

func TestPublisher_IsUnavailableWithoutAServerAndGoesOnWithIt(t *testing.T) {
	s, conn := publisherRig(t, bus.Options{})
	p := conn.NewPublisher(stream)
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := p.Publish(ctx, event(1)); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("without a server: %v", err)
	}
	s.Restart()
	eventually(t, "publishing works again", func() bool { return p.Publish(t.Context(), event(1)) == nil })
	if n := stored(t, conn).Msgs; n != 1 {
		t.Errorf("%d messages are stored", n)
	}
}

func rows(t *testing.T, from, to int) []outbox.Message {
	t.Helper()
	var out []outbox.Message
	for n := from; n <= to; n++ {
		m := event(n)
		row, err := m.Outbox(stream)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, row)
	}
	return out
}

func TestOutboxPublish_StoresEveryRowOnce(t *testing.T) {
	_, conn := publisherRig(t, bus.Options{})
	publish := bus.OutboxPublish(conn.JS)
	for _, batch := range [][2]int{{1, 1}, {1, 450}, {1, 450}, {440, 460}} {
		if err := publish(t.Context(), rows(t, batch[0], batch[1])); err != nil {
			t.Fatal(err)
		}
	}
	if n := stored(t, conn).Msgs; n != 460 {
		t.Errorf("%d messages are stored, want 460", n)
	}
	s, err := conn.JS.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.GetMsg(t.Context(), 300)
	if err != nil {
		t.Fatal(err)
	}
	for name := range raw.Header {
		if strings.HasPrefix(name, "Nats-Batch") && raw.Header.Get("Nats-Batch-Id") == "" {
			t.Errorf("half a batch header: %v", raw.Header)
		}
	}
	m, err := bus.Decode(raw.Subject, raw.Header, raw.Data)
	if err != nil || m.ID != fmt.Sprintf("ev-%04d", raw.Sequence) {
		t.Errorf("message %d of the stream is %q (%v)", raw.Sequence, m.ID, err)
	}
}

func TestOutboxPublish_TellsRefusalFromOutage(t *testing.T) {
	s, conn := publisherRig(t, bus.Options{})
	config := streamConfig(stream, "certctl.evt.>")
	config.MaxMsgSize = 4096
	if _, err := conn.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	publish := bus.OutboxPublish(conn.JS)
	batch := rows(t, 1, 10)
	batch[4].Body = make([]byte, 8192)
	if err := publish(t.Context(), batch); err == nil || fault.CodeOf(err) == fault.Unavailable {
		t.Errorf("refused message: %v", err)
	}
	if n := stored(t, conn).Msgs; n != 9 {
		t.Errorf("%d of the others are stored", n)
	}
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := publish(ctx, rows(t, 11, 20)); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("without a server: %v", err)
	}
}

// BenchmarkPublish compares one message after the other with many callers, on a server that syncs every write.
func BenchmarkPublish(b *testing.B) {
	for _, sync := range []bool{true, false} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("sync=%t/callers=%d", sync, callers), func(b *testing.B) {
				var options []natstest.Option
				if sync {
					options = append(options, natstest.SyncAlways)
				}
				_, conn := publisherRig(b, bus.Options{}, options...)
				b.ResetTimer()
				publishAll(b, conn.NewPublisher(stream), b.N, callers)
			})
		}
	}
}
