package bustest

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
)

func TestConsumer_SendsPoisonToTheDeadLetters(t *testing.T) {
	r := newRig(t)
	r.publish(1, 10)
	r.consume(spec(), func(ctx context.Context, tx pgx.Tx, batch []bus.Message) error {
		for _, m := range batch {
			if m.ID == event(7).ID {
				return fault.New(fault.Invalid, "no such\r\ncertificate")
			}
		}
		return record(ctx, tx, batch)
	})
	r.settledAll()
	if got := r.effects(); len(got) != 9 || slices.Contains(got, event(7).ID) {
		t.Errorf("effects are of %v", got)
	}
	letters := r.deadLetters()
	if len(letters) != 1 {
		t.Fatalf("%d dead letters", len(letters))
	}
	l := letters[0]
	got := map[string]string{
		"subject": l.Subject, "body": string(l.Data), "id": l.Header.Get("Nats-Msg-Id"), "ce-id": l.Header.Get("ce-id"),
		"error": l.Header.Get(bus.HeaderDLQError), "was on": l.Header.Get(bus.HeaderDLQSubject),
		"stream": l.Header.Get(bus.HeaderDLQStream) + "/" + l.Header.Get(bus.HeaderDLQSequence),
		"by":     l.Header.Get(bus.HeaderDLQConsumer), "delivered": l.Header.Get(bus.HeaderDLQDelivered),
	}
	want := map[string]string{
		"subject": "certctl.dlq.issuer.issuer-evt", "body": "{}", "id": "dlq:issuer-evt:ev-0007", "ce-id": "ev-0007",
		"error": "no such  certificate", "was on": "certctl.evt.certificate.mc-1.issued",
		"stream": "EVT/7", "by": "issuer-evt", "delivered": "1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dead letter (-want +got):\n%s", diff)
	}
}

func TestConsumer_SendsWhatItCannotDecodeToTheDeadLetters(t *testing.T) {
	r := newRig(t)
	if _, err := r.conn.JS.Publish(t.Context(), "certctl.evt.x", []byte("not an event")); err != nil {
		t.Fatal(err)
	}
	r.publish(1, 3)
	r.consume(spec(), record)
	r.settledAll()
	letters := r.deadLetters()
	if len(letters) != 1 || string(letters[0].Data) != "not an event" || letters[0].Header.Get("Nats-Msg-Id") != "dlq:issuer-evt:EVT-1" {
		t.Errorf("dead letters: %+v", letters)
	}
	if diff := cmp.Diff(ids(1, 3), r.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestConsumer_GivesUpAfterTenDeliveries(t *testing.T) {
	r := newRig(t)
	var tries atomic.Int32
	r.consume(spec(), func(context.Context, pgx.Tx, []bus.Message) error {
		tries.Add(1)
		panic("always")
	})
	r.publish(1, 1)
	r.settledAll()
	if n := tries.Load(); n != 10 {
		t.Errorf("tried %d times", n)
	}
	letters := r.deadLetters()
	if len(letters) != 1 || letters[0].Header.Get(bus.HeaderDLQError) != "handler panicked: panic: always" {
		t.Errorf("dead letters: %+v", letters)
	}
}

func TestConsumer_KeepsAMessageWhoseDeadLetterCannotBeStored(t *testing.T) {
	r := newRig(t)
	if err := r.conn.JS.DeleteStream(t.Context(), "DLQ"); err != nil {
		t.Fatal(err)
	}
	refuse := func(context.Context, pgx.Tx, []bus.Message) error { return fault.New(fault.Invalid, "never") }
	r.publish(1, 1)
	tried := make(chan struct{}, 100)
	r.consume(spec(), func(ctx context.Context, tx pgx.Tx, b []bus.Message) error {
		tried <- struct{}{}
		return refuse(ctx, tx, b)
	})
	<-tried
	if _, err := r.conn.JS.CreateStream(t.Context(), streamConfig("DLQ", "certctl.dlq.>")); err != nil {
		t.Fatal(err)
	}
	r.settledAll()
	if n := len(r.deadLetters()); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}
