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

func TestChain_HoldsWhatWasAppended(t *testing.T) {
	events := sample(5)
	head := Head{}.Append(events[:2])
	if head = head.Append(events[2:]); head.Sequence != 5 {
		t.Fatalf("the head is at %d", head.Sequence)
	}
	previous := Hash{}
	for i := range events {
		e := &events[i]
		if e.Sequence != int64(i+1) || e.Hash != Sum(previous, e) {
			t.Errorf("event %d stands at %d and has the hash %s", i+1, e.Sequence, e.Hash)
		}
		previous = e.Hash
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

// TestSum_CoversEveryField changes one field after the other.
func TestSum_CoversEveryField(t *testing.T) {
	changes := map[string]func(*Event){
		"sequence":                 func(e *Event) { e.Sequence++ },
		"id":                       func(e *Event) { e.ID += "x" },
		"actor":                    func(e *Event) { e.Actor = "mallory" },
		"actor type":               func(e *Event) { e.ActorType = "System" },
		"action":                   func(e *Event) { e.Action = "certificate_archived" },
		"resource type":            func(e *Event) { e.ResourceType = "target" },
		"resource id":              func(e *Event) { e.ResourceID = "mc-2" },
		"a space in the details":   func(e *Event) { e.Details = `{"n": 1}` },
		"a microsecond":            func(e *Event) { e.At = e.At.Add(time.Microsecond) },
		"text moved between them":  func(e *Event) { e.Actor, e.ActorType = "adminU", "ser" },
		"a field that is left out": func(e *Event) { e.Actor = "" },
	}
	for name, change := range changes {
		events := sample(1)
		Head{}.Append(events)
		before := events[0].Hash
		change(&events[0])
		if Sum(Hash{}, &events[0]) == before {
			t.Errorf("%s does not matter", name)
		}
	}
}
