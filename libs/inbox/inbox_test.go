package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/inbox"
	"github.com/certctl/certctl/libs/internal/scratch"
	"github.com/certctl/certctl/libs/pg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(withShutdown{m}) }

type withShutdown struct{ *testing.M }

func (m withShutdown) Run() int {
	code := m.M.Run()
	if err := scratch.Shutdown(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	server, err := scratch.Private()
	must(t, err)
	return scratch.Pool(t, server, os.DirFS("../../migrations/outbox_inbox"), "shop")
}

func claim(t *testing.T, pool *pgxpool.Pool, consumer string, ids ...string) (fresh []string) {
	t.Helper()
	must(t, pg.InTx(t.Context(), pool, func(tx pgx.Tx) (err error) {
		fresh, err = inbox.Claim(t.Context(), tx, consumer, ids)
		return err
	}))
	return fresh
}

func TestClaim_ReturnsEachIDOnceAndInOrder(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	if diff := cmp.Diff([]string{"c", "a"}, claim(t, pool, "x", "c", "a", "c")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"b"}, claim(t, pool, "x", "a", "b", "c")); diff != "" {
		t.Error(diff)
	}
	if got := claim(t, pool, "x", "a", "b"); len(got) != 0 {
		t.Errorf("%v is fresh again", got)
	}
}

func TestClaim_KeepsConsumersApart(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	claim(t, pool, "x", "a")
	if diff := cmp.Diff([]string{"a"}, claim(t, pool, "y", "a")); diff != "" {
		t.Error(diff)
	}
}

func TestClaim_IsUndoneByRollback(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	failed := errors.New("effect failed")
	err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := inbox.Claim(t.Context(), tx, "x", []string{"a"})
		return errors.Join(err, failed)
	})
	if !errors.Is(err, failed) {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff([]string{"a"}, claim(t, pool, "x", "a")); diff != "" {
		t.Error(diff)
	}
}

func TestClaim_OfTheSameIDsAtOnceGivesEachToOne(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	const claimers, rounds = 4, 50
	got := make(chan []string, claimers)
	for round := range rounds {
		ids := []string{fmt.Sprint("a", round), fmt.Sprint("b", round), fmt.Sprint("c", round)}
		for i := range claimers {
			order := append(append([]string{}, ids[i%3:]...), ids[:i%3]...)
			go func() {
				var fresh []string
				err := pg.InTx(context.WithoutCancel(t.Context()), pool, func(tx pgx.Tx) (err error) {
					fresh, err = inbox.Claim(t.Context(), tx, "x", order)
					return err
				})
				if err != nil {
					t.Error(err)
				}
				got <- fresh
			}()
		}
		total := 0
		for range claimers {
			total += len(<-got)
		}
		if total != len(ids) {
			t.Fatalf("%d ids were handed out, want %d", total, len(ids))
		}
	}
}

func TestPrune_ForgetsOnlyWhatIsOld(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	claim(t, pool, "x", "old", "new")
	_, err := pool.Exec(t.Context(), "UPDATE inbox SET received_at = now() - interval '91 days' WHERE msg_id = 'old'")
	must(t, err)
	n, err := inbox.Prune(t.Context(), pool, inbox.Keep)
	must(t, err)
	if diff := cmp.Diff([]string{"old"}, claim(t, pool, "x", "old", "new")); n != 1 || diff != "" {
		t.Errorf("%d rows forgotten, want 1; %s", n, diff)
	}
}

func TestPrune_OfALargeInboxSeesAllOfItInTheEnd(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO inbox SELECT repeat('x', 1500), i::text, now() - i % 2 * interval '91 days' FROM generate_series(1, 60000) i`)
	must(t, err)
	var forgotten int64
	for range 200 {
		n, err := inbox.Prune(t.Context(), pool, inbox.Keep)
		must(t, err)
		if forgotten += n; forgotten == 30_000 {
			return
		}
	}
	t.Errorf("%d rows forgotten, want 30,000", forgotten)
}

func TestClaimNew_RefusesWhatWasTaken(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	claimNew := func(consumer string, ids ...string) error {
		return pg.InTx(t.Context(), pool, func(tx pgx.Tx) error { return inbox.ClaimNew(t.Context(), tx, consumer, ids) })
	}
	must(t, claimNew("x", "b", "a", "b"))
	must(t, claimNew("y", "a"))
	must(t, claimNew("y"))
	if err := claimNew("x", "c", "a"); !pg.IsUnique(err) {
		t.Errorf("got %v, want a unique violation", err)
	}
	if diff := cmp.Diff([]string{"c"}, claim(t, pool, "x", "a", "b", "c")); diff != "" {
		t.Error(diff)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
