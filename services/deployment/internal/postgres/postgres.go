// Package postgres is the service's SQL.
//
// Every statement takes sets and works through an index. Functions that are part of a
// larger change take a transaction; locks are taken in one order everywhere: an agent
// or a target before jobs, jobs before orders, each by id. Who finds rows locked that
// are only to be worked on next skips them, so any number of replicas may run.
//
// Rules are not here: rows are read into the types of rollout and fleet, changed there,
// and written back.
package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Querier runs statements: a pool, a connection or a transaction.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// openStates are the states of a job that has not ended, as the partial indexes have
// them.
const openStates = `('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')`

const (
	// afresh has a statement planned for the arguments at hand. A plan that is kept was
	// made for sets of any size and for the table as it was then; one from the first minute
	// of an installation may read the whole of a table that has long grown.
	afresh = pgx.QueryExecModeCacheDescribe
	// kept keeps the plan of a statement of which there are many, and which looks up, for each
	// element of its arrays, a row by a key. To plan one afresh takes as long as some twenty rows.
	// A plan that was made while a table had a few rows reads all of them, and is made anew when
	// the server next analyzes the table; until then, with 10,000 rows more, it costs a tenth more.
	kept = pgx.QueryExecModeCacheStatement
)

// collect runs a query whose rows scan reads. It is planned afresh unless its first
// argument is kept.
func collect[T any](ctx context.Context, db Querier, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, append([]any{afresh}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// apply runs a statement that returns no rows. It is planned as by collect.
func apply(ctx context.Context, db Querier, sql string, args ...any) error {
	_, err := db.Exec(ctx, sql, append([]any{afresh}, args...)...)
	return err
}

// column turns a slice by a quarter.
func column[T, V any](of []T, value func(T) V) []V {
	out := make([]V, len(of))
	for i, v := range of {
		out[i] = value(v)
	}
	return out
}

// orNull is null for the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// next is the result of a query for the earliest of a nullable column; zero if there
// is none.
func next(ctx context.Context, db Querier, what, sql string) (time.Time, error) {
	var t *time.Time
	if err := db.QueryRow(ctx, sql).Scan(&t); err != nil {
		return time.Time{}, fmt.Errorf("when is %s due: %w", what, err)
	}
	return orZero(t), nil
}
