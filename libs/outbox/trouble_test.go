package outbox_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/outbox"
)

// refuseIDs refuses every batch that has one of ids.
func refuseIDs(ids ...string) func([]outbox.Message) error {
	return func(messages []outbox.Message) error {
		for _, m := range messages {
			if slices.Contains(ids, m.ID) {
				return errors.New("subject does not belong to the stream")
			}
		}
		return nil
	}
}

func TestRelay_PassesOverARowThatIsRefused(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	bus.setRefuse(refuseIDs("bad"))
	relay := &outbox.Relay{Pool: pool, Publish: bus.publish}
	run(t, relay)
	insert(t, pool, message("a", "EVT"), message("bad", "EVT"), message("b", "EVT"))
	eventually(t, "the others are sent", func() bool { return unsent(t, pool) == 1 })
	insert(t, pool, message("c", "EVT"))
	relay.Wake()
	eventually(t, "a later one is sent", func() bool { return len(bus.ids()) == 3 })

	bus.setRefuse(nil)
	eventually(t, "the row is sent once it is accepted", func() bool { return unsent(t, pool) == 0 })
	if diff := cmp.Diff([]string{"a", "b", "bad", "c"}, bus.ids()); diff != "" {
		t.Error(diff)
	}
}

func TestRelay_GetsPastMoreRefusedRowsThanABatchHolds(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	var bad []string
	for i := range 25 {
		bad = append(bad, fmt.Sprintf("bad%02d", i))
		insert(t, pool, message(bad[i], "EVT"))
	}
	insert(t, pool, message("good", "EVT"))
	bus.setRefuse(refuseIDs(bad...))
	run(t, &outbox.Relay{Pool: pool, Publish: bus.publish, Batch: 10})
	eventually(t, "the good row is sent", func() bool { return slices.Contains(bus.ids(), "good") })
	bus.setRefuse(nil)
	eventually(t, "all rows are sent", func() bool { return unsent(t, pool) == 0 })
}

func TestRelay_AStreamThatIsAwayHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	bus.setRefuse(func(messages []outbox.Message) error {
		if messages[0].Stream == "AGENT_CMD" {
			return errAway
		}
		return nil
	})
	relay := &outbox.Relay{Pool: pool, Publish: bus.publish, Batch: 5}
	run(t, relay)
	for i := range 20 {
		insert(t, pool, message(fmt.Sprintf("c%02d", i), "AGENT_CMD"))
	}
	insert(t, pool, message("event", "EVT"))
	eventually(t, "the event alone is sent", func() bool { return unsent(t, pool) == 20 })
	if got := bus.ids(); !slices.Equal(got, []string{"event"}) {
		t.Errorf("%v were published", got)
	}
	bus.setRefuse(nil)
	eventually(t, "the stream's rows are sent when it is back", func() bool { return unsent(t, pool) == 0 })
	if got := len(bus.ids()); got != 21 {
		t.Errorf("%d messages published, want 21", got)
	}
}
