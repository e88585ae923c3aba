package pg_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
)

func TestLockTx_MakesWritersTakeTurns(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
				if err := pg.LockTx(t.Context(), tx, "chain"); err != nil {
					return err
				}
				var stock int
				if err := tx.QueryRow(t.Context(), "SELECT stock FROM item WHERE id = 1").Scan(&stock); err != nil {
					return err
				}
				_, err := tx.Exec(t.Context(), "UPDATE item SET stock = $1 WHERE id = 1", stock-1)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if stock := query[int](t, pool, "SELECT stock FROM item WHERE id = 1"); stock != 2 {
		t.Errorf("stock %d, want 2: an update was lost", stock)
	}
}

func TestHold_LetsInOneAtATimeAndTheNextAfterIt(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	var holding, turns atomic.Int32
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			err := pg.Hold(t.Context(), pool, "writer", func(context.Context, *pg.Lease) error {
				if holding.Add(1) != 1 {
					t.Error("two hold the lease")
				}
				turns.Add(1)
				holding.Add(-1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if turns.Load() != 3 {
		t.Errorf("%d turns, want 3", turns.Load())
	}
}

func TestHold_FencesOffAHolderThatHasLostTheLease(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := errors.New("done")
	runs := 0
	err := pg.Hold(ctx, pool, "writer", func(held context.Context, l *pg.Lease) error {
		if runs++; runs == 2 {
			return done
		}
		// The server ends the holder's session, and so frees the lock, while the holder is in the middle of its work.
		err := l.InTx(ctx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "UPDATE item SET stock = 0"); err != nil {
				return err
			}
			_, err := pool.Exec(ctx, "SELECT pg_terminate_backend($1)", tx.Conn().PgConn().PID())
			return err
		})
		if err == nil {
			t.Error("a holder without the lease has committed")
		}
		<-held.Done()
		return held.Err()
	})
	if !errors.Is(err, done) || runs != 2 {
		t.Errorf("%d runs and %v, want the lease to be won again", runs, err)
	}
	if stock := query[int](t, pool, "SELECT min(stock) FROM item"); stock != 10 {
		t.Errorf("stock %d, want 10", stock)
	}
}

func TestHold_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := pg.Hold(ctx, pool, "writer", func(held context.Context, _ *pg.Lease) error {
		cancel()
		<-held.Done()
		return held.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the cancellation", err)
	}
}
