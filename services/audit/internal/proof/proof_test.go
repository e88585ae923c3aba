package proof

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/export"
)

var at = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(t *testing.T) chain.PublicKey {
	t.Helper()
	k, err := chain.PublicKeyOf(key(1))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// link makes rows of events as they stand in an export, with every hash made anew.
func link(events []chain.Event) []export.Row {
	rows := make([]export.Row, len(events))
	previous := chain.Hash{}
	chain.Head{}.Append(events)
	for i := range events {
		rows[i] = export.Row{Event: events[i], Previous: previous}
		previous = events[i].Hash
	}
	return rows
}

func events(n int) []chain.Event {
	out := make([]chain.Event, n)
	for i := range out {
		out[i] = chain.Event{
			ID: fmt.Sprintf("ae-%d", i+1), Actor: "key-ada", ActorType: "User", Action: "certificate_created",
			ResourceType: "certificate", ResourceID: "mc-1", Details: `{"n":1}`, At: at,
		}
	}
	return out
}

// sample is a chain of twenty events with checkpoints at 5, 10 and 15.
func sample(t *testing.T) (rows []export.Row, checkpoints []chain.Checkpoint) {
	t.Helper()
	rows = link(events(20))
	for _, n := range []int{5, 10, 15} {
		checkpoints = append(checkpoints, sign(t, rows[n-1], 1))
	}
	return rows, checkpoints
}

func sign(t *testing.T, r export.Row, by byte) chain.Checkpoint {
	t.Helper()
	c, err := chain.Sign(key(by), chain.Head{Sequence: r.Sequence, Hash: r.Hash}, at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func verify(v *Verifier, rows []export.Row, checkpoints []chain.Checkpoint) (Report, error) {
	for i := range checkpoints {
		if err := v.Checkpoint(&checkpoints[i]); err != nil {
			return v.Report(), err
		}
	}
	for i := range rows {
		if err := v.Row(&rows[i]); err != nil {
			return v.Report(), err
		}
	}
	return v.End()
}

func TestVerifier_SaysHowMuchIsProven(t *testing.T) {
	rows, checkpoints := sample(t)
	got, err := verify(&Verifier{Key: public(t)}, rows, checkpoints)
	want := Report{Events: 20, First: 1, Last: 20, Hash: rows[19].Hash, Checkpoints: 3, Signed: 15, Signatures: true}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = verify(&Verifier{}, rows, nil); err != nil || got.Checkpoints != 0 || got.Signatures {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = verify(&Verifier{}, nil, nil); err != nil || got != (Report{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// tampering is every way to alter an export, with what is to be found.
type tampering struct {
	alter       func(rows []export.Row) []export.Row
	kind        Kind
	sequence    int64
	contradicts int64 // zero for none
}

// rewrite alters events and makes every hash behind them anew, as whoever can write to
// the database could.
func rewrite(alter func(e []chain.Event) []chain.Event) func([]export.Row) []export.Row {
	return func(rows []export.Row) []export.Row {
		all := make([]chain.Event, len(rows))
		for i := range rows {
			all[i] = rows[i].Event
		}
		return link(alter(all))
	}
}

func TestVerifier_FindsEveryKindOfTampering(t *testing.T) {
	cases := map[string]tampering{
		"an actor is changed":      {func(r []export.Row) []export.Row { r[6].Actor = "mallory"; return r }, Changed, 7, 10},
		"a detail is changed":      {func(r []export.Row) []export.Row { r[0].Details = `{"n":2}`; return r }, Changed, 1, 5},
		"a time is changed":        {func(r []export.Row) []export.Row { r[19].At = at.Add(time.Microsecond); return r }, Changed, 20, 0},
		"a hash is changed":        {func(r []export.Row) []export.Row { r[4].Hash[0]++; return r }, Changed, 5, 5},
		"an event and its hash":    {func(r []export.Row) []export.Row { r[6].Actor = "mallory"; rehash(&r[6]); return r }, Changed, 7, 10},
		"the last of a checkpoint": {func(r []export.Row) []export.Row { r[4].Actor = "mallory"; rehash(&r[4]); return r }, Rewritten, 5, 5},
		"an event is removed":      {func(r []export.Row) []export.Row { return slices.Delete(r, 6, 7) }, Removed, 7, 10},
		"three are removed":        {func(r []export.Row) []export.Row { return slices.Delete(r, 8, 11) }, Removed, 9, 10},
		"the first is removed":     {func(r []export.Row) []export.Row { return r[1:] }, Removed, 1, 5},
		"the beginning is removed": {func(r []export.Row) []export.Row { return r[12:] }, Removed, 1, 5},
		"an event is said twice":   {func(r []export.Row) []export.Row { return slices.Insert(r, 7, r[6]) }, Inserted, 7, 10},
		"an event is put in":       {func(r []export.Row) []export.Row { return slices.Insert(r, 7, forged(r[6], 8)) }, Inserted, 8, 10},
		"put in, and the others moved": {func(r []export.Row) []export.Row {
			r = slices.Insert(r, 7, forged(r[6], 8))
			for i := 8; i < len(r); i++ {
				r[i].Sequence++
			}
			return r
		}, Changed, 9, 10},
		"two are swapped": {func(r []export.Row) []export.Row { r[6], r[7] = r[7], r[6]; return r }, Removed, 7, 10},
		"two have swapped places": {func(r []export.Row) []export.Row {
			r[6].Sequence, r[7].Sequence = 8, 7
			r[6], r[7] = r[7], r[6]
			return r
		}, Changed, 7, 10},
		"the end is cut off":                   {func(r []export.Row) []export.Row { return r[:12] }, Truncated, 13, 15},
		"the end is cut off at a checkpoint":   {func(r []export.Row) []export.Row { return r[:14] }, Truncated, 15, 15},
		"everything is cut off":                {func(r []export.Row) []export.Row { return nil }, Truncated, 1, 5},
		"changed, and all hashes anew":         {rewrite(func(e []chain.Event) []chain.Event { e[6].Actor = "mallory"; return e }), Rewritten, 10, 10},
		"removed, and all hashes anew":         {rewrite(func(e []chain.Event) []chain.Event { return slices.Delete(e, 2, 3) }), Rewritten, 5, 5},
		"put in, and all hashes anew":          {rewrite(func(e []chain.Event) []chain.Event { return slices.Insert(e, 11, e[2]) }), Rewritten, 15, 15},
		"swapped, and all hashes anew":         {rewrite(func(e []chain.Event) []chain.Event { e[0], e[1] = e[1], e[0]; return e }), Rewritten, 5, 5},
		"another chain in its place":           {func([]export.Row) []export.Row { return link(slices.Repeat(events(1), 20)) }, Rewritten, 5, 5},
		"a shorter chain, all hashes anew too": {rewrite(func(e []chain.Event) []chain.Event { return e[:3] }), Truncated, 4, 5},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			rows, checkpoints := sample(t)
			_, err := verify(&Verifier{Key: public(t)}, c.alter(rows), checkpoints)
			f, ok := errors.AsType[*Finding](err)
			if !ok {
				t.Fatalf("found is %v", err)
			}
			contradicts := int64(0)
			if f.Contradicts != nil {
				contradicts = f.Contradicts.Sequence
			}
			if f.Kind != c.kind || f.Sequence != c.sequence || contradicts != c.contradicts {
				t.Errorf("found is %s of %d, contradicting %d, want %s of %d, contradicting %d: %v",
					f.Kind, f.Sequence, contradicts, c.kind, c.sequence, c.contradicts, err)
			}
			if !strings.Contains(err.Error(), fmt.Sprintf("event %d", c.sequence)) && !strings.Contains(err.Error(), fmt.Sprintf("events %d", c.sequence)) {
				t.Errorf("the event is not named: %v", err)
			}
			if c.contradicts > 0 && !strings.Contains(err.Error(), fmt.Sprintf("checkpoint %d of 2026-11-23T12:00:00.000000Z", c.contradicts)) {
				t.Errorf("the checkpoint is not named: %v", err)
			}
		})
	}
}

func rehash(r *export.Row) { r.Hash = chain.Sum(r.Previous, &r.Event) }

// forged is an event that fits behind r.
func forged(r export.Row, sequence int64) export.Row {
	f := export.Row{Event: r.Event, Previous: r.Hash}
	f.ID, f.Sequence = "ae-forged", sequence
	rehash(&f)
	return f
}

func TestVerifier_FindsCheckpointsThatTheKeyHasNotSigned(t *testing.T) {
	rows, checkpoints := sample(t)
	for name, forge := range map[string]func(){
		"moved":           func() { checkpoints[1].Sequence++ },
		"by another key":  func() { checkpoints[1] = sign(t, rows[9], 2) },
		"another's claim": func() { checkpoints[1].Signature = checkpoints[2].Signature },
	} {
		rows, checkpoints = sample(t)
		forge()
		_, err := verify(&Verifier{Key: public(t)}, rows, checkpoints)
		if f, ok := errors.AsType[*Finding](err); !ok || f.Kind != Forged {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVerifier_FindsByACheckpointKeptElsewhere is about whoever rewrote everything and
// removed the checkpoints, or signed new ones.
func TestVerifier_FindsByACheckpointKeptElsewhere(t *testing.T) {
	rows, checkpoints := sample(t)
	kept := checkpoints[1]
	rows = rewrite(func(e []chain.Event) []chain.Event { e[6].Actor = "mallory"; return e })(rows)
	anew := []chain.Checkpoint{sign(t, rows[4], 1), sign(t, rows[9], 1), sign(t, rows[14], 1)}
	if _, err := verify(&Verifier{Key: public(t)}, rows, anew); err != nil {
		t.Fatal(err)
	}
	_, err := verify(&Verifier{Key: public(t)}, rows, append(anew, kept))
	if f, ok := errors.AsType[*Finding](err); !ok || f.Kind != Rewritten || f.Sequence != 10 {
		t.Errorf("found is %v", err)
	}
	_, err = verify(&Verifier{Key: public(t)}, rows[:9], []chain.Checkpoint{kept})
	if f, ok := errors.AsType[*Finding](err); !ok || f.Kind != Truncated {
		t.Errorf("found is %v", err)
	}
}

func TestVerifier_OfAPartialChainAllowsGapsAndNothingElse(t *testing.T) {
	partial := func(t *testing.T) ([]export.Row, []chain.Checkpoint) {
		rows, checkpoints := sample(t)
		return []export.Row{rows[2], rows[3], rows[5], rows[9], rows[18]}, checkpoints
	}
	rows, checkpoints := partial(t)
	got, err := verify(&Verifier{Key: public(t), Partial: true}, rows, checkpoints)
	// Event 6 names event 5 as its predecessor, which is signed; event 10 is itself.
	want := Report{Events: 5, First: 3, Last: 19, Gaps: 4, Hash: rows[4].Hash, Checkpoints: 2, Signed: 10, Signatures: true}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := verify(&Verifier{}, rows, nil); err == nil {
		t.Error("gaps are taken for a whole chain")
	}
	for name, alter := range map[string]func([]export.Row){
		"changed":                  func(r []export.Row) { r[1].Actor = "mallory" },
		"changed with its hash":    func(r []export.Row) { r[0].Actor = "mallory"; rehash(&r[0]) },
		"the signed one rewritten": func(r []export.Row) { r[3].Actor = "mallory"; rehash(&r[3]) },
		"behind a signed one":      func(r []export.Row) { r[2].Previous[0]++; rehash(&r[2]) },
		"swapped":                  func(r []export.Row) { r[1], r[2] = r[2], r[1] },
		"said twice":               func(r []export.Row) { r[2] = r[1] },
	} {
		rows, checkpoints := partial(t)
		alter(rows)
		if _, err := verify(&Verifier{Key: public(t), Partial: true}, rows, checkpoints); err == nil {
			t.Errorf("%s: it went unnoticed", name)
		}
	}
}
