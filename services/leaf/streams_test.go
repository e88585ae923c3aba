package leaf

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/testkit/natstest"
)

// A leaf of before kept orders for a week, whether they were acknowledged or not.
func TestOpenStream_TakesThePlaceOfAnOlderReleasesWithSequencesGoingOn(t *testing.T) {
	js := natstest.Start(t).Connect(bus.Options{Name: "leaf"}).JS
	streams, _ := stream.Leaf()
	want := streams[0]
	old := want
	old.Retention = jetstream.LimitsPolicy
	if _, err := js.CreateStream(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	agent := stream.Agent("agent-a")
	agent.Config.MemoryStorage = false
	if _, err := js.CreateConsumer(t.Context(), agent.Stream, agent.Config); err != nil {
		t.Fatal(err)
	}
	publish := func(i int) uint64 {
		t.Helper()
		ack, err := js.Publish(t.Context(), subject.SiteCommand("agent-a", "deploy", fmt.Sprintf("job-%d", i)), nil)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	var last uint64
	for i := range 5 {
		last = publish(i)
	}
	log := slog.New(slog.DiscardHandler)
	for range 2 { // and is left alone by the next start
		if err := openStream(t.Context(), js, want, log); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js.Stream(t.Context(), want.Name)
	if err != nil {
		t.Fatal(err)
	}
	if info := s.CachedInfo(); info.Config.Retention != jetstream.WorkQueuePolicy || info.State.Msgs != 0 || info.State.Consumers != 0 {
		t.Errorf("%+v", info)
	}
	if next := publish(6); next != last+1 {
		t.Errorf("after sequence %d comes %d", last, next)
	}
	if err := openStream(t.Context(), js, want, log); err != nil {
		t.Fatal(err)
	}
	if info, err := s.Info(t.Context()); err != nil || info.State.Msgs != 1 {
		t.Errorf("an order that waits is lost at a start: %+v, %v", info, err)
	}
}
