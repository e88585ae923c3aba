// Package record says what a change of a configuration record comes to: which fields differ, and whether somebody may
// make it.
package record

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
)

// Fields are a record's fields by their names in the API, without secrets.
type Fields map[string]any

// Changes returns the fields that differ. Nil fields stand for a record that is not there.
func Changes(before, after Fields) event.Changes {
	out := event.Changes{}
	for name, was := range before {
		if is, ok := after[name]; !ok || !reflect.DeepEqual(was, is) {
			out[name] = event.Change{Before: was, After: is}
		}
	}
	for name, is := range after {
		if _, ok := before[name]; !ok {
			out[name] = event.Change{After: is}
		}
	}
	return out
}

// Uses are what refers to a record: the first few by id, and how many there are.
type Uses struct {
	// Kind is what they are, as in "owner".
	Kind  string
	First []string
	// Total is bounded: from MaxUses on it stands for that many or more.
	Total int
}

// How many users are named, and how far they are counted.
const (
	NamedUses = 10
	MaxUses   = 10_000
)

// InUse refuses the removal of what is in use, naming its users; nil if nothing uses it.
func InUse(what, id string, uses ...Uses) error {
	var parts []string
	for _, u := range uses {
		if u.Total == 0 {
			continue
		}
		part := strconv.Itoa(u.Total) + " " + u.Kind
		if u.Total >= MaxUses {
			part = "at least " + part
		}
		if u.Total != 1 {
			part += "s"
		}
		part += " (" + strings.Join(u.First, ", ")
		if u.Total > len(u.First) {
			part += ", …"
		}
		parts = append(parts, part+")")
	}
	if len(parts) == 0 {
		return nil
	}
	return fault.New(fault.Conflict, "%s %s is in use by %s", what, id, strings.Join(parts, " and "))
}
