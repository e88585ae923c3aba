package postgres_test

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tracer notes the statements that a pool runs.
type tracer struct {
	mu   sync.Mutex
	seen []statement // guarded by mu
}

type statement struct {
	sql  string
	args []any
}

func (t *tracer) statements() []statement {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen
}

// TraceQueryStart implements [pgx.QueryTracer].
func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = append(t.seen, statement{data.SQL, data.Args})
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (t *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (e *engine) open(cfg *pgxpool.Config) *pgxpool.Pool {
	e.t.Helper()
	pool, err := pgxpool.NewWithConfig(e.t.Context(), cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	return pool
}
