package chain

import (
	"encoding/hex"
	"testing"
	"time"
)

func sample(n int) []Event {
	events := make([]Event, n)
	for i := range events {
		events[i] = Event{
			ID: "ae-" + string(rune('a'+i)), Actor: "admin", ActorType: "User", Action: "certificate_created",
			ResourceType: "certificate", ResourceID: "mc-1", Details: `{"n":1}`,
			At: time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC),
		}
	}
	return events
}

func check(events []Event) error {
	var head Head
	var err error
	for i := range events {
		if head, err = head.Check(&events[i]); err != nil {
			return err
		}
	}
	return nil
}

func TestChain_HoldsWhatWasAppended(t *testing.T) {
	events := sample(5)
	head := Head{}.Append(events[:2])
	if head = head.Append(events[2:]); head.Sequence != 5 {
		t.Fatalf("the head is at %d", head.Sequence)
	}
	if err := check(events); err != nil {
		t.Error(err)
	}
}

// TestSum_IsWhatTheDocumentationSays pins the encoding, on which exports and outsiders
// rely.
func TestSum_IsWhatTheDocumentationSays(t *testing.T) {
	events := sample(1)
	Head{}.Append(events)
	const want = "d2c5d3117deb94e295006fdd4ea3d6bfe69eddaceb38288fd6df6e8f883b3879"
	if got := hex.EncodeToString(events[0].Hash[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCheck_FindsEveryKindOfTampering(t *testing.T) {
	tampering := map[string]func([]Event) []Event{
		"a changed actor":            func(e []Event) []Event { e[2].Actor = "mallory"; return e },
		"a changed detail":           func(e []Event) []Event { e[2].Details = `{"n":2}`; return e },
		"a changed time":             func(e []Event) []Event { e[2].At = e[2].At.Add(time.Microsecond); return e },
		"text moved between fields":  func(e []Event) []Event { e[2].Actor, e[2].ActorType = "adminU", "ser"; return e },
		"an event taken out":         func(e []Event) []Event { return append(e[:2], e[3:]...) },
		"the first event taken out":  func(e []Event) []Event { return e[1:] },
		"an event said twice":        func(e []Event) []Event { return append(e[:3], e[2:]...) },
		"two events in other places": func(e []Event) []Event { e[1], e[2] = e[2], e[1]; return e },
		"a rewritten event whose successors were not": func(e []Event) []Event {
			e[2].Actor = "mallory"
			Head{Sequence: e[1].Sequence, Hash: e[1].Hash}.Append(e[2:3])
			return e
		},
	}
	for name, tamper := range tampering {
		t.Run(name, func(t *testing.T) {
			events := sample(5)
			Head{}.Append(events)
			if err := check(tamper(events)); err == nil {
				t.Error("it went unnoticed")
			}
		})
	}
}
