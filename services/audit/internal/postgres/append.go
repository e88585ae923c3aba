// Package postgres stores the chain of audit events and reads it.
//
// There is one writer at a time, however many replicas run: whoever appends holds a lock
// until its transaction ends, and reads the head under it.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/audit/internal/chain"
)

const chainLock = "audit-chain"

const readHead = `SELECT sequence, hash FROM audit_events ORDER BY sequence DESC LIMIT 1`

var eventColumns = []string{
	"sequence", "id", "actor", "actor_type", "action", "resource_type", "resource_id", "details", "happened_at", "hash",
}

// onRecord is asked under the lock, so nobody adds to its answer.
const onRecord = `SELECT id, happened_at FROM audit_events WHERE id = ANY($1)`

// ErrTaken means that an event has the id of another one that is on record.
var ErrTaken = errors.New("the id of an event is that of another one on record")

// Append puts events at the end of the chain, in their order, within tx, and returns how many those were: an event that
// is on record already is passed over, so that its message may come any number of times. It is the same one if id and
// time are: whoever calls the API may choose the id of a call again, but not the time. What else is said of it depends on
// the build that put it on record. The slice is left with what was added, as it stands in the chain.
func Append(ctx context.Context, tx pgx.Tx, events []chain.Event) (int, error) {
	if len(events) == 0 {
		return 0, nil
	}
	if err := pg.LockTx(ctx, tx, chainLock); err != nil {
		return 0, fmt.Errorf("lock the audit chain: %w", err)
	}
	head, err := Head(ctx, tx)
	if err != nil {
		return 0, err
	}
	if events, err = missing(ctx, tx, events); err != nil || len(events) == 0 {
		return 0, err
	}
	head.Append(events)
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"audit_events"}, eventColumns, rows(events)); err != nil {
		return 0, fmt.Errorf("append %d audit events: %w", len(events), err)
	}
	return len(events), nil
}

// missing returns the events that are not on record, each once, in the place of events.
func missing(ctx context.Context, tx pgx.Tx, events []chain.Event) ([]chain.Event, error) {
	ids := make([]string, len(events))
	for i := range events {
		ids[i] = events[i].ID
	}
	rows, err := tx.Query(ctx, onRecord, ids)
	if err != nil {
		return nil, fmt.Errorf("look for events that are on record: %w", err)
	}
	known := make(map[string]time.Time, len(events))
	var id string
	var at time.Time
	if _, err := pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		known[id] = at
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for events that are on record: %w", err)
	}
	out := events[:0]
	for i := range events {
		e := &events[i]
		before, there := known[e.ID]
		switch happened := e.At.Truncate(time.Microsecond); {
		case !there:
			known[e.ID] = happened
			out = append(out, *e)
		case !before.Equal(happened):
			return nil, fmt.Errorf("%w: %s", ErrTaken, e.ID)
		}
	}
	return out, nil
}

// Querier is a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Head returns the end of the chain.
func Head(ctx context.Context, q Querier) (chain.Head, error) {
	var head chain.Head
	var hash []byte
	err := q.QueryRow(ctx, readHead).Scan(&head.Sequence, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return chain.Head{}, nil
	}
	if err != nil {
		return chain.Head{}, fmt.Errorf("read the head of the audit chain: %w", err)
	}
	head.Hash = chain.Hash(hash)
	return head, nil
}

// rows are events as they are copied into the table: in bulk the driver sends that with a fifth of the memory that it takes
// for an INSERT of arrays.
func rows(events []chain.Event) pgx.CopyFromSource {
	return pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
		e := &events[i]
		return []any{
			e.Sequence, e.ID, e.Actor, e.ActorType, e.Action, e.ResourceType, e.ResourceID, e.Details, e.At, e.Hash[:],
		}, nil
	})
}
