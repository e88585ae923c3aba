package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/proof"
)

func TestAppend_KeepsEveryByte(t *testing.T) {
	pool := newPool(t)
	want := happened("a", 2)
	store(t, pool, want)
	got, err := List(t.Context(), pool, Filter{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].At = got[i].At.UTC()
	}
	if d := cmp.Diff([]chain.Event{want[1], want[0]}, got); d != "" {
		t.Error(d)
	}
}

func TestAppend_ByManyAtOnceMakesOneChainWithoutGaps(t *testing.T) {
	pool := newPool(t)
	const writers, rounds, each = 8, 15, 7
	g, ctx := errgroup.WithContext(t.Context())
	for w := range writers {
		g.Go(func() error {
			for r := range rounds {
				err := pg.InTx(ctx, pool, func(tx pgx.Tx) error {
					_, err := Append(ctx, tx, happened(fmt.Sprintf("w%d-r%d", w, r), each))
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	untouched(t, pool, writers*rounds*each)
}

func TestAppend_ThatIsRolledBackLeavesNoGap(t *testing.T) {
	pool := newPool(t)
	store(t, pool, happened("a", 3))
	failure := errors.New("changed my mind")
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := Append(t.Context(), tx, happened("b", 3))
		return errors.Join(err, failure)
	})
	if !errors.Is(err, failure) {
		t.Fatal(err)
	}
	store(t, pool, happened("c", 3))
	untouched(t, pool, 6)
}

func TestAppend_TwiceInOneTransactionGoesOn(t *testing.T) {
	pool := newPool(t)
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		for _, name := range []string{"a", "b", ""} {
			if _, err := Append(t.Context(), tx, happened(name, len(name)*2)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	untouched(t, pool, 4)
}

func TestAppend_PassesOverWhatIsOnRecord(t *testing.T) {
	pool := newPool(t)
	store(t, pool, happened("a", 2))
	again := append(append(happened("a", 3), happened("b", 1)...), happened("b", 1)...)
	added, err := appended(t, pool, again)
	if err != nil || added != 2 {
		t.Errorf("%d events were added, want the third of a and one of b; %v", added, err)
	}
	untouched(t, pool, 4)
}

func TestAppend_RefusesAnotherEventOfAnIDThatIsOnRecord(t *testing.T) {
	pool := newPool(t)
	store(t, pool, happened("a", 1))
	other := happened("a", 2)
	other[0].At = other[0].At.Add(time.Microsecond)
	_, err := appended(t, pool, other)
	if !errors.Is(err, ErrTaken) {
		t.Errorf("got %v", err)
	}
	twice := append(happened("b", 1), happened("b", 1)...)
	twice[1].At = twice[1].At.Add(time.Microsecond)
	if _, err := appended(t, pool, twice); !errors.Is(err, ErrTaken) {
		t.Errorf("got %v", err)
	}
	untouched(t, pool, 1)
}

// TestVerify_FindsWhatAnAdministratorAltered damages the table as only a superuser who
// switches the triggers off can, at a place beyond the first batch too.
func TestVerify_FindsWhatAnAdministratorAltered(t *testing.T) {
	const n = verifyBatch + 10
	for name, c := range map[string]struct {
		sql   string
		named int64 // the event that the error is to name
	}{
		"an actor":           {`UPDATE audit_events SET actor = 'key-bob' WHERE sequence = 5005`, 5005},
		"a detail's spacing": {`UPDATE audit_events SET details = '{"n":1, "ü": "\u20ac", "n": 2}' WHERE sequence = 7`, 7},
		"a microsecond":      {`UPDATE audit_events SET happened_at = happened_at + interval '1 microsecond' WHERE sequence = 1`, 1},
		"an impossible time": {`UPDATE audit_events SET happened_at = 'infinity' WHERE sequence = 9`, 0},
		"a hash":             {`UPDATE audit_events SET hash = sha256('x') WHERE sequence = 5000`, 5000},
		"a row taken out":    {`DELETE FROM audit_events WHERE sequence = 4999`, 4999},
		"the first row":      {`DELETE FROM audit_events WHERE sequence = 1`, 1},
		"a row taken out and the gap closed": {`DELETE FROM audit_events WHERE sequence = 5001;
			UPDATE audit_events SET sequence = sequence - 1 WHERE sequence = 5002`, 5001},
		"two rows swapped": {`UPDATE audit_events SET sequence = 900000 WHERE sequence = 3;
			UPDATE audit_events SET sequence = 3 WHERE sequence = 4; UPDATE audit_events SET sequence = 4 WHERE sequence = 900000`, 3},
		"a row put in": {`INSERT INTO audit_events SELECT 5011, 'ae-forged', actor, actor_type, action, resource_type, resource_id,
			details, happened_at, hash FROM audit_events WHERE sequence = 5010`, 5011},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			store(t, pool, happened("a", n))
			conn := superuser(t, pool)
			if _, err := conn.Exec(t.Context(), `ALTER TABLE audit_events DISABLE TRIGGER USER`); err != nil {
				t.Fatal(err)
			}
			for sql := range strings.SplitSeq(c.sql, ";") {
				if tag, err := conn.Exec(t.Context(), sql); err != nil || tag.RowsAffected() == 0 {
					t.Fatalf("%s: %v %v", sql, tag, err)
				}
			}
			_, err := Verify(t.Context(), pool, new(proof.Verifier))
			if err == nil {
				t.Fatal("it went unnoticed")
			}
			if f, _ := errors.AsType[*proof.Finding](err); c.named != 0 && (f == nil || f.Sequence != c.named) {
				t.Errorf("the error is %q, which does not name event %d", err, c.named)
			}
		})
	}
}

func TestVerify_ReadsAChainThatGrows(t *testing.T) {
	pool := newPool(t)
	store(t, pool, happened("a", verifyBatch))
	g, ctx := errgroup.WithContext(t.Context())
	ctx, cancel := context.WithCancel(ctx)
	g.Go(func() error {
		defer cancel()
		for i := range 20 {
			err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
				_, err := Append(t.Context(), tx, happened(fmt.Sprintf("b%d", i), 50))
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	for ctx.Err() == nil {
		if _, err := Verify(t.Context(), pool, new(proof.Verifier)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	untouched(t, pool, verifyBatch+1000)
}
