package bustest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

// publishRig is a server with the streams, and no database.
func publishRig(t testing.TB, o bus.Options, options ...natstest.Option) (*natstest.Server, *bus.Conn) {
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

func rows(t testing.TB, from, to int) []outbox.Message {
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

func TestOutboxRelay_StoresEveryRowOnce(t *testing.T) {
	_, conn := publishRig(t, bus.Options{})
	publish := conn.OutboxRelay(nil, nil).Publish
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
	m, err := bus.Decode(raw.Subject, raw.Header, raw.Data)
	if err != nil || m.ID != fmt.Sprintf("ev-%04d", raw.Sequence) {
		t.Errorf("message %d of the stream is %q (%v)", raw.Sequence, m.ID, err)
	}
}

func TestOutboxRelay_TellsRefusalFromOutage(t *testing.T) {
	s, conn := publishRig(t, bus.Options{})
	config := streamConfig(stream, "certctl.evt.>")
	config.MaxMsgSize = 4096
	if _, err := conn.JS.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	publish := conn.OutboxRelay(nil, nil).Publish
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

// BenchmarkOutboxPublish is a message, of batches of so many.
func BenchmarkOutboxPublish(b *testing.B) {
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			_, conn := publishRig(b, bus.Options{})
			publish := conn.OutboxRelay(nil, nil).Publish
			for n := 0; n < b.N; n += size {
				if err := publish(b.Context(), rows(b, n+1, n+size)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
