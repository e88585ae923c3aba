// Package chain links audit events so that no one can rewrite them unnoticed.
//
// The hash of an event is SHA-256 over the hash of the event before it and every field
// of the event itself, each preceded by its length as eight bytes, big-endian. Numbers
// and times are text: the sequence in decimal, the time as RFC 3339 in UTC with six
// digits of fraction. The first event follows 32 zero bytes. That is all an outsider
// needs to check an export.
//
// A checkpoint is a signed statement of what the end of the chain was; see [Checkpoint].
//
// The package decides nothing about storage; it is pure.
package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"
)

// Hash is what an event is known by to the event after it.
type Hash [sha256.Size]byte

// Event is one fact on record.
type Event struct {
	// Sequence is the place in the chain, from 1, without gaps.
	Sequence     int64
	ID           string
	Actor        string
	ActorType    string
	Action       string
	ResourceType string
	ResourceID   string
	// Details is JSON text; its bytes count, not its meaning.
	Details string
	// At has microseconds; anything finer is cut off.
	At   time.Time
	Hash Hash
}

const timeLayout = "2006-01-02T15:04:05.000000Z"

// Sum computes the hash of e as the successor of previous. e.Hash is not read.
func Sum(previous Hash, e *Event) Hash {
	// Most events fit into so much of the stack.
	text := appendField(make([]byte, 0, 2<<10), string(previous[:]))
	for _, field := range [...]string{
		strconv.FormatInt(e.Sequence, 10), e.ID, e.Actor, e.ActorType, e.Action,
		e.ResourceType, e.ResourceID, e.Details, Time(e.At),
	} {
		text = appendField(text, field)
	}
	return sha256.Sum256(text)
}

func appendField(to []byte, field string) []byte {
	return append(binary.BigEndian.AppendUint64(to, uint64(len(field))), field...)
}

// Head is the end of a chain. The zero value is that of an empty one.
type Head struct {
	Sequence int64
	Hash     Hash
}

// Append gives the events their places behind head, in their order, and returns the new
// head.
func (head Head) Append(events []Event) Head {
	for i := range events {
		e := &events[i]
		e.Sequence = head.Sequence + 1
		e.At = e.At.UTC().Truncate(time.Microsecond)
		e.Hash = Sum(head.Hash, e)
		head = Head{Sequence: e.Sequence, Hash: e.Hash}
	}
	return head
}
