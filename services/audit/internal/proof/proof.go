// Package proof reads a chain, from wherever it was kept, and tells whether it is what
// was recorded. It names the first event that is not, and the checkpoint that this
// contradicts.
//
// What it proves depends on what is kept elsewhere. Hashes alone show an alteration by
// whoever did not make all later hashes anew. A checkpoint shows any alteration before
// it, by whoever does not hold the key that signs. Events behind the newest checkpoint
// that is known can be cut off unnoticed.
//
// The package is pure: it is given one row after the other, in the order of the chain.
package proof

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/export"
)

// Kind says what was done to the chain.
type Kind string

// Kinds of findings.
const (
	// Changed is an event that does not fit its hash or its neighbour.
	Changed Kind = "changed"
	// Removed is an event that is not there.
	Removed Kind = "removed"
	// Inserted is an event that stands where another belongs.
	Inserted Kind = "inserted"
	// Rewritten is an event that fits its hash but not a checkpoint.
	Rewritten Kind = "rewritten"
	// Truncated is a chain that ends before a checkpoint.
	Truncated Kind = "truncated"
	// Forged is a checkpoint that its key has not signed.
	Forged Kind = "forged"
)

// Finding is the first thing that is not as it was recorded.
type Finding struct {
	Kind Kind
	// Sequence and ID name the event; ID is empty if it is not there.
	Sequence int64
	ID       string
	// Contradicts is the first checkpoint that vouches for what was there; nil if none is
	// known that does.
	Contradicts *chain.Checkpoint

	what string
}

// Error is the finding in words.
func (f *Finding) Error() string {
	if f.Contradicts == nil {
		return f.what
	}
	return fmt.Sprintf("%s; this contradicts checkpoint %d of %s", f.what, f.Contradicts.Sequence, chain.Time(f.Contradicts.SignedAt))
}

// Report is what was read.
type Report struct {
	// Events is how many, First and Last their places, Hash that of the last.
	Events      int64
	First, Last int64
	Hash        chain.Hash
	// Gaps is how often events are left out, which only a partial chain may.
	Gaps int64
	// Checkpoints is how many were held against an event, Signed the place of the last of
	// them. Signatures tells whether a key was there to verify them with.
	Checkpoints int64
	Signed      int64
	Signatures  bool
}

// Verifier verifies one chain.
type Verifier struct {
	// Key verifies signatures; without one they are taken on trust.
	Key chain.PublicKey
	// Partial allows a chain of which some events were left out on purpose. Each is then
	// held against the hash of its predecessor that stands beside it.
	Partial bool

	head        chain.Head
	checkpoints []chain.Checkpoint // those not yet reached, in order once sorted
	sorted      bool
	report      Report
}

// Checkpoint adds a checkpoint. All must be known before the first event.
func (v *Verifier) Checkpoint(c *chain.Checkpoint) error {
	if v.sorted {
		return errors.New("a checkpoint stands behind events; give checkpoints first")
	}
	if v.Key != nil {
		if err := v.Key.Verify(c); err != nil {
			return &Finding{Kind: Forged, Sequence: c.Sequence, what: err.Error()}
		}
	}
	v.checkpoints = append(v.checkpoints, *c)
	return nil
}

// Row verifies the next event of a file.
func (v *Verifier) Row(r *export.Row) error { return v.event(&r.Event, &r.Previous) }

// Event verifies the next event of a chain that is read from where it is kept.
func (v *Verifier) Event(e *chain.Event) error { return v.event(e, nil) }

func (v *Verifier) event(e *chain.Event, previous *chain.Hash) error {
	v.sort()
	if err := v.step(e, previous); err != nil {
		return err
	}
	if v.report.Events == 0 {
		v.report.First = e.Sequence
	}
	v.report.Events++
	v.report.Last, v.report.Hash = e.Sequence, e.Hash
	v.head = chain.Head{Sequence: e.Sequence, Hash: e.Hash}
	return v.anchor(e.ID)
}

// step holds an event against the one before it.
func (v *Verifier) step(e *chain.Event, previous *chain.Hash) error {
	want := v.head.Sequence + 1
	switch {
	case e.Sequence < want:
		return v.found(Inserted, e.Sequence, e.ID, "event %d (%s) stands where %d belongs: it was put in or moved", e.Sequence, e.ID, want)
	case e.Sequence > want && (!v.Partial || previous == nil):
		return v.found(Removed, want, "", "event %d (%s) stands where %d belongs: %s missing", e.Sequence, e.ID, want, span(want, e.Sequence-1))
	case e.Sequence > want:
		// Left out on purpose, as far as anybody can tell.
		v.report.Gaps++
		v.head = chain.Head{Sequence: e.Sequence - 1, Hash: *previous}
		if err := v.anchor(""); err != nil {
			return err
		}
	}
	if chain.Sum(v.head.Hash, e) == e.Hash {
		return nil
	}
	if previous != nil && *previous != v.head.Hash && chain.Sum(*previous, e) == e.Hash {
		return v.found(Changed, v.head.Sequence, "", "event %d was changed or put in, and its hash made anew: event %d (%s) follows another one",
			v.head.Sequence, e.Sequence, e.ID)
	}
	return v.found(Changed, e.Sequence, e.ID, "event %d (%s) does not match its hash: it or its place was altered", e.Sequence, e.ID)
}

func span(from, to int64) string {
	if from == to {
		return fmt.Sprintf("event %d is", from)
	}
	return fmt.Sprintf("events %d to %d are", from, to)
}

// anchor holds the head against the checkpoints that speak of it, and forgets those that
// speak of events that were left out.
func (v *Verifier) anchor(id string) error {
	for len(v.checkpoints) > 0 && v.checkpoints[0].Sequence <= v.head.Sequence {
		c := v.checkpoints[0]
		if c.Sequence == v.head.Sequence {
			if c.Hash != v.head.Hash {
				return v.found(Rewritten, c.Sequence, id, "event %d (%s) has another hash than was signed: an event from %d to %d was altered "+
					"and all hashes behind it were made anew", c.Sequence, id, v.report.Signed+1, c.Sequence)
			}
			v.report.Checkpoints++
			v.report.Signed = c.Sequence
		}
		v.checkpoints = v.checkpoints[1:]
	}
	return nil
}

func (v *Verifier) sort() {
	if !v.sorted {
		v.sorted = true
		slices.SortStableFunc(v.checkpoints, func(a, b chain.Checkpoint) int { return cmp.Compare(a.Sequence, b.Sequence) })
	}
}

// found makes a finding about an event. The first checkpoint at or behind it vouches for
// what was there.
func (v *Verifier) found(k Kind, sequence int64, id, format string, args ...any) error {
	f := &Finding{Kind: k, Sequence: sequence, ID: id, what: fmt.Sprintf(format, args...)}
	for i := range v.checkpoints {
		if v.checkpoints[i].Sequence >= sequence {
			f.Contradicts = &v.checkpoints[i]
			break
		}
	}
	return f
}

// End returns what was read, or that the chain ends too early.
func (v *Verifier) End() (Report, error) {
	v.sort()
	v.report.Signatures = v.Key != nil
	if len(v.checkpoints) > 0 && !v.Partial {
		return v.report, v.found(Truncated, v.head.Sequence+1, "", "the chain ends with event %d: %s missing", v.head.Sequence,
			span(v.head.Sequence+1, v.checkpoints[len(v.checkpoints)-1].Sequence))
	}
	return v.report, nil
}

// Report is what was read so far.
func (v *Verifier) Report() Report { return v.report }
