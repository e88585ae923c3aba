// Package postgres keeps certificates, their versions and the jobs that make them.
//
// Each unit of work is one statement: what changes and the events that tell of it commit together. Statements take
// slices, and creations that come at once are gathered, so that the cost of a commit is shared. The version that an
// event carries is taken from the row inside the statement, so the events of one certificate are numbered without gaps
// or doubles however many write at once.
//
// A change of a job names the token it has seen, and has no effect if that is not the newest. Rows of jobs are locked
// before those of certificates.
package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/gather"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

const (
	// maxGathered bounds how many creations go in one statement.
	maxGathered = 64
	// createLinger has it wait for more of them when many come at a time.
	createLinger = 2 * time.Millisecond
	// createTimeout bounds that statement.
	createTimeout = 10 * time.Second
)

// querier is a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Store is the issuer's schema. It is safe for concurrent use.
type Store struct {
	pool      *pgxpool.Pool
	hooks     Hooks
	creations *gather.Group[issuance.Creation]
	totals    pg.Totals
	figures   figures
}

// Hooks are called after commits. They must not block.
type Hooks struct {
	// Told is called when there are events to publish.
	Told func()
	// Due is called when a job has a time at which it is to be looked at, perhaps now.
	Due func()
	// Look is called when the time may have changed at which a certificate is to be looked at. Nil is nobody.
	Look func()
}

// New returns the store behind a pool.
func New(pool *pgxpool.Pool, hooks Hooks) *Store {
	if hooks.Look == nil {
		hooks.Look = func() {}
	}
	s := &Store{pool: pool, hooks: hooks}
	s.creations = &gather.Group[issuance.Creation]{
		Key: func(c issuance.Creation) string { return c.Certificate.ID },
		Do:  s.create, Max: maxGathered, Linger: createLinger, Timeout: createTimeout,
	}
	return s
}

// Load implements [issuance.Jobs].
func (s *Store) Load(ctx context.Context, ids []string) (map[string]issuance.Work, error) {
	found, err := load(ctx, s.pool, ids)
	return found, pg.Fault(err)
}

// Apply implements [issuance.Jobs].
func (s *Store) Apply(ctx context.Context, changes []issuance.Change) (applied map[string]bool, err error) {
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		applied, err = apply(ctx, tx, changes)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.hooks.Told()
	s.wake(changes)
	return applied, nil
}

// wake tells of what follows from changes that have been committed.
func (s *Store) wake(changes []issuance.Change) {
	if slices.ContainsFunc(changes, func(c issuance.Change) bool { return !c.NextActionAt.IsZero() }) {
		s.hooks.Due()
	}
	if slices.ContainsFunc(changes, func(c issuance.Change) bool { return c.Status.Final() }) {
		s.hooks.Look()
	}
}

// Tx is the store within a transaction that somebody else commits.
type Tx struct{ tx pgx.Tx }

// In returns the store within a transaction.
func In(tx pgx.Tx) Tx { return Tx{tx} }

// Load implements [issuance.Jobs].
func (t Tx) Load(ctx context.Context, ids []string) (map[string]issuance.Work, error) {
	return load(ctx, t.tx, ids)
}

// Apply implements [issuance.Jobs].
func (t Tx) Apply(ctx context.Context, changes []issuance.Change) (map[string]bool, error) {
	return apply(ctx, t.tx, changes)
}

// column turns one field of many rows into an array for unnest.
func column[R, T any](rows []R, field func(*R) T) []T {
	out := make([]T, len(rows))
	for i := range rows {
		out[i] = field(&rows[i])
	}
	return out
}

// orNull is NULL for the zero time.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// orZero is the zero time for NULL.
func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
