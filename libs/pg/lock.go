package pg

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/retry"
)

// keyInSchema is the key of an advisory lock, from a name: keys belong to the database, names to a schema.
const keyInSchema = "hashtextextended(current_schema() || '/' || $1, 0)"

// LockTx waits for the lock called name, within the schema of tx, and holds it until tx ends. It is the whole of what a single writer needs
// whose state is read and written in one transaction: any number of replicas may try, and they take turns. The wait is
// bounded by lock_timeout and then an error of code Unavailable.
func LockTx(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock("+keyInSchema+")", "lock/"+name)
	if err != nil {
		return fmt.Errorf("wait for lock %s: %w", name, Fault(err))
	}
	return nil
}

const (
	leaseTry       = time.Second
	leaseKeepAlive = 2 * time.Second
)

// Lease is the right to be the only one, held as an advisory lock on a connection of its own. The server frees it the
// moment that connection ends, so a holder that was killed is followed within a second, without a time-out to wait
// out.
//
// Fencing is by construction instead of by token: what is done through InTx runs on the connection that holds the
// lock, so a transaction of a holder that has lost it cannot commit, however long that holder slept. What is done
// elsewhere (on another pool, on the bus) may overlap with a new holder for up to the keep-alive of two seconds.
type Lease struct {
	mu   sync.Mutex // guards conn: one user at a time
	conn *pgx.Conn
}

// Hold waits until it holds the lease called name, within the schema of pool, and runs do. The context of do ends when
// the lease is lost. Then, and also when do returns an error that says that the database is away, Hold waits for the
// lease anew and runs do again. It returns do's result otherwise, and ctx's error when that ends first.
func Hold(ctx context.Context, pool *pgxpool.Pool, name string, do func(ctx context.Context, l *Lease) error) error {
	for {
		conn, err := win(ctx, pool, name)
		if err != nil {
			return fmt.Errorf("wait for lease %s: %w", name, err)
		}
		l := &Lease{conn: conn}
		lost, err := l.run(ctx, do)
		closeConn(ctx, conn)
		if !lost || ctx.Err() != nil {
			return err
		}
	}
}

// InTx is the function InTx on the lease's own connection.
func (l *Lease) InTx(ctx context.Context, do func(tx pgx.Tx) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return InTx(ctx, l.conn, do)
}

func (l *Lease) run(ctx context.Context, do func(ctx context.Context, l *Lease) error) (lost bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan bool, 1)
	go func() {
		defer cancel()
		watched <- l.watch(ctx)
	}()
	err = do(ctx, l)
	cancel()
	lost = <-watched || fault.CodeOf(err) == fault.Unavailable && l.broken()
	return lost, err
}

// watch reports true when the connection broke, and false when ctx ended before.
func (l *Lease) watch(ctx context.Context) bool {
	ticks := time.NewTicker(leaseKeepAlive)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticks.C:
			if !l.mu.TryLock() {
				continue // In use, which tells as much as a ping.
			}
			ping, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseKeepAlive)
			err := l.conn.Ping(ping)
			cancel()
			l.mu.Unlock()
			if err != nil {
				return true
			}
		}
	}
}

func (l *Lease) broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn.IsClosed()
}

// win returns a connection that holds the lock. It has left its pool, which would close it for its age.
func win(ctx context.Context, pool *pgxpool.Pool, name string) (*pgx.Conn, error) {
	policy := retry.Policy{Base: leaseTry, Cap: leaseTry, Jitter: 0.5}
	for {
		conn, err := tryWin(ctx, pool, name)
		if conn != nil || err != nil && !IsUnavailable(err) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(policy.Delay(1, nil)):
		}
	}
}

func tryWin(ctx context.Context, pool *pgxpool.Pool, name string) (*pgx.Conn, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	var won bool
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock("+keyInSchema+")", "lease/"+name).Scan(&won)
	if err != nil {
		conn.Release()
		return nil, err
	}
	if won {
		return conn.Hijack(), nil
	}
	conn.Release()
	return nil, nil
}
