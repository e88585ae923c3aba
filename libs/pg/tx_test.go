package pg_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
)

func TestInTx_RollsBackOnErrorAndPanic(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	refused := errors.New("refused")
	spoil := func(tx pgx.Tx) {
		_, err := tx.Exec(t.Context(), "UPDATE item SET stock = 0")
		must(t, err)
	}
	if err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error { spoil(tx); return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v, want the function's own error", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = pg.InTx(t.Context(), pool, func(tx pgx.Tx) error { spoil(tx); panic("bug") })
	}()
	ctx, cancel := context.WithCancel(t.Context())
	if err := pg.InTx(ctx, pool, func(tx pgx.Tx) error { spoil(tx); cancel(); return nil }); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("got %v, want the cancellation", err)
	}
	if stock := query[int](t, pool, "SELECT min(stock) FROM item"); stock != 10 {
		t.Errorf("stock %d, want 10", stock)
	}
	if n := pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still in use", n)
	}
}

func TestInTx_TriesAgainAfterADeadlock(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	var wait sync.WaitGroup
	meet := make(chan bool)
	var once [2]bool
	for i, order := range [][2]int{{1, 2}, {2, 1}} {
		wait.Go(func() {
			err := pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
				for step, item := range order {
					if _, err := tx.Exec(t.Context(), "UPDATE item SET stock = stock - 1 WHERE id = $1", item); err != nil {
						return err
					}
					if step == 0 && !once[i] {
						once[i] = true
						select {
						case meet <- true:
						case <-meet:
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if stock := query[int](t, pool, "SELECT sum(stock) FROM item"); stock != 16 {
		t.Errorf("stock %d in all, want 16", stock)
	}
}

func TestInTx_GivesUpWhenRepetitionDoesNotHelp(t *testing.T) {
	t.Parallel()
	attempts := 0
	err := pg.InTx(t.Context(), newPool(t), func(tx pgx.Tx) error {
		attempts++
		_, err := tx.Exec(t.Context(), "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")
		return err
	})
	if attempts != 5 || fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("%d attempts and %v, want 5 and unavailable", attempts, err)
	}
}

func TestInTx_SaysWhenTheOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	wire := &wire{}
	cfg := newPool(t).Config()
	cfg.ConnConfig.DialFunc = wire.dial
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	must(t, err)
	defer pool.Close()
	change := func(end func(tx pgx.Tx)) error {
		return pg.InTx(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "UPDATE item SET stock = 0")
			end(tx)
			return err
		})
	}
	err = change(func(pgx.Tx) { wire.cutAfterWrite.Store(true) })
	if !errors.Is(err, pg.ErrCommitUnknown) || fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("cut after the commit was sent: got %v, want ErrCommitUnknown and unavailable", err)
	}
	err = change(func(tx pgx.Tx) { must(t, tx.Conn().Close(t.Context())) })
	if errors.Is(err, pg.ErrCommitUnknown) || fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("cut before the commit was sent: got %v, want unavailable alone", err)
	}
}

// wire is a network that breaks when it is told to: after it has carried the next write, before any answer to it.
type wire struct{ cutAfterWrite atomic.Bool }

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &wiredConn{conn, w}, err
}

type wiredConn struct {
	net.Conn
	wire *wire
}

func (c *wiredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if c.wire.cutAfterWrite.CompareAndSwap(true, false) {
		_ = c.Close()
	}
	return n, err
}

func TestFault_LeavesConstraintsToTheCaller(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	for sql, is := range map[string]func(error) bool{
		"INSERT INTO item VALUES (1, 1)":              pg.IsUnique,
		"INSERT INTO sale (item) VALUES (99)":         pg.IsForeignKey,
		"UPDATE item SET stock = -1":                  pg.IsCheck,
		"UPDATE item SET stock = -1 WHERE stock = 10": func(err error) bool { return pg.Constraint(err) == "item_stock" },
	} {
		_, err := pool.Exec(t.Context(), sql)
		if err = pg.Fault(err); !is(err) || fault.CodeOf(err) != fault.Internal {
			t.Errorf("%s: got %v, code %s", sql, err, fault.CodeOf(err))
		}
	}
	if err := pool.QueryRow(t.Context(), "SELECT 1 WHERE false").Scan(new(int)); !pg.IsNotFound(pg.Fault(err)) {
		t.Errorf("got %v, want no rows", err)
	}
}

func TestFault_IsUnavailableWhenTheServerEndsTheConnection(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	_, err := pool.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
	if fault.CodeOf(pg.Fault(err)) != fault.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	_, err = pool.Exec(t.Context(), "SELECT 1")
	must(t, err)
}
