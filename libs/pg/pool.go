// Package pg is how a service reaches Postgres: a pool bound to its role and schema, transactions that retry what is
// worth retrying, roles and schemas made ready, migrations, locks, and errors told apart.
//
// It guarantees that
//   - a service's pool can name its own tables only: search_path is its schema alone, and Provision gives its runtime
//     role no right outside it and no ownership within it;
//   - losing Postgres is an outage and no more: what was running fails with fault.Unavailable, and the same pool works
//     again once the server is back;
//   - a transaction of InTx happened, did not happen, or is said to be in doubt (ErrCommitUnknown).
//
// It does not start a server (package pg/local does), does not build SQL, and does not translate constraint
// violations: only the caller knows what a duplicate key means to its client. IsUnique and Constraint help it to.
package pg

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/retry"
)

// Options say how a pool is made. Its zero value is a pool for anything but a service: eight connections, and the
// search_path of the role.
type Options struct {
	// MaxConns is how many connections there may be. They are opened when first needed and then kept, because a new
	// one costs as much as a hundred queries. Zero means 8.
	MaxConns int32
	// AppName is shown by pg_stat_activity and in the server's log.
	AppName string
	// Schema is the only schema of search_path. Empty leaves the role's own.
	Schema string
	// StatementTimeout ends a statement that runs longer. Zero means 30 s.
	StatementTimeout time.Duration
	// ConnectTimeout is how long Open waits for a server that is starting or away. Zero means 30 s.
	ConnectTimeout time.Duration
}

const (
	defaultMaxConns         = 8
	defaultStatementTimeout = 30 * time.Second
	defaultConnectTimeout   = 30 * time.Second
	// A transaction that its client has forgotten holds locks and keeps vacuum from its work.
	idleInTransaction = 60 * time.Second
	lockTimeout       = 10 * time.Second
	keepIdle          = time.Hour
	maxLifetime       = 4 * time.Hour
	dialTimeout       = 5 * time.Second
	livenessPing      = 2 * time.Second
)

// Open returns a pool on the database that url names, once the server has answered. While the server is starting or
// away it tries again, until ConnectTimeout or the end of ctx; a refusal (password, unknown database) is returned at
// once. The caller closes the pool.
func Open(ctx context.Context, url string, o Options) (*pgxpool.Pool, error) {
	cfg, err := poolConfig(url, o)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open pool for %s: %w", o.AppName, err)
	}
	wait := o.ConnectTimeout
	if wait == 0 {
		wait = defaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := untilAnswered(ctx, pool.Ping); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect %s to Postgres: %w", o.AppName, err)
	}
	return pool, nil
}

func poolConfig(url string, o Options) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the database URL cannot be read")
	}
	cfg.MaxConns = o.MaxConns
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultMaxConns
	}
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		readJSONQuickly(conn)
		encodeWhole(conn)
		return nil
	}
	cfg.MaxConnIdleTime = keepIdle
	cfg.MaxConnLifetime = maxLifetime
	cfg.MaxConnLifetimeJitter = maxLifetime / 8
	cfg.PingTimeout = livenessPing
	cfg.ConnConfig.ConnectTimeout = dialTimeout
	statement := o.StatementTimeout
	if statement == 0 {
		statement = defaultStatementTimeout
	}
	maps.Copy(cfg.ConnConfig.RuntimeParams, map[string]string{
		"statement_timeout":                   milliseconds(statement),
		"idle_in_transaction_session_timeout": milliseconds(idleInTransaction),
		"lock_timeout":                        milliseconds(lockTimeout),
		"timezone":                            "UTC",
		// A host that vanishes must give up its locks within half a minute, not after the two hours of the default.
		"tcp_keepalives_idle":     "10",
		"tcp_keepalives_interval": "5",
		"tcp_keepalives_count":    "4",
	})
	if o.AppName != "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = o.AppName
	}
	if o.Schema != "" {
		if err := validName(o.Schema); err != nil {
			return nil, err
		}
		cfg.ConnConfig.RuntimeParams["search_path"] = o.Schema
		// Every statement of a service has its index. A plan that was made while a table was small and then kept must not
		// read all of it when it has grown; what that setting adds to the cost of the few that have none must not have
		// them compiled. On disks without arms the place of a page costs nothing; a planner that thinks so keeps its plans
		// of keyset pages, which else are made anew for each page and take longer than it.
		cfg.ConnConfig.RuntimeParams["enable_seqscan"] = "off"
		cfg.ConnConfig.RuntimeParams["random_page_cost"] = "1.1"
		cfg.ConnConfig.RuntimeParams["jit"] = "off"
	}
	return cfg, nil
}

// untilAnswered repeats try while the server is away or starting.
func untilAnswered(ctx context.Context, try func(context.Context) error) error {
	policy := retry.Policy{Base: 20 * time.Millisecond, Cap: time.Second, Jitter: 0.3}
	for attempt := 1; ; attempt++ {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if !IsUnavailable(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return Fault(err)
		case <-time.After(policy.Delay(attempt, nil)):
		}
	}
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }
