package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/services/audit/internal/chain"
)

const columnList = `sequence, id, actor, actor_type, action, resource_type, resource_id, details::text, happened_at, hash`

// Filter says which events are wanted; empty fields ask for nothing.
type Filter struct {
	Actor, Action, ResourceType, ResourceID string
	// Before is the sequence behind which to go on; zero begins with the newest.
	Before        int64
	Limit, Offset int
}

const where = `
WHERE ($1 = '' OR actor = $1) AND ($2 = '' OR action = $2) AND ($3 = '' OR resource_type = $3) AND ($4 = '' OR resource_id = $4)`

const listEvents = `SELECT ` + columnList + ` FROM audit_events` + where + `
  AND ($5 = 0 OR sequence < $5)
ORDER BY sequence DESC LIMIT $6 OFFSET $7`

// List returns events, newest first.
func List(ctx context.Context, q Querier, f Filter) ([]chain.Event, error) {
	rows, err := q.Query(ctx, listEvents, f.Actor, f.Action, f.ResourceType, f.ResourceID, f.Before, f.Limit, f.Offset)
	if err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	return collect(rows)
}

// countLimit bounds the work of counting. Totals beyond it are said to be it.
const countLimit = 10_000

const countEvents = `SELECT count(*) FROM (SELECT FROM audit_events` + where + ` LIMIT $5) AS bounded`

// Count returns how many events match, at most 10,000 if anything is asked for. All of
// them are counted by the sequence, which has no gaps.
func Count(ctx context.Context, q Querier, f Filter) (int64, error) {
	if f.Actor == "" && f.Action == "" && f.ResourceType == "" && f.ResourceID == "" {
		head, err := Head(ctx, q)
		return head.Sequence, err
	}
	var n int64
	err := q.QueryRow(ctx, countEvents, f.Actor, f.Action, f.ResourceType, f.ResourceID, countLimit).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count audit events: %w", err)
	}
	return n, nil
}

const getEvent = `SELECT ` + columnList + ` FROM audit_events WHERE id = $1`

// Get returns one event; the error wraps [pgx.ErrNoRows] if there is none.
func Get(ctx context.Context, q Querier, id string) (chain.Event, error) {
	rows, err := q.Query(ctx, getEvent, id)
	if err != nil {
		return chain.Event{}, fmt.Errorf("get audit event: %w", err)
	}
	e, err := pgx.CollectExactlyOneRow(rows, scan)
	if err != nil {
		return chain.Event{}, fmt.Errorf("get audit event %s: %w", id, err)
	}
	return e, nil
}

const readChain = `SELECT ` + columnList + ` FROM audit_events WHERE sequence > $1 ORDER BY sequence LIMIT $2`

// verifyBatch is how many events are read at once while the chain is checked.
const verifyBatch = 5000

// Verify reads the whole chain and returns its head. The error names the first event
// that does not fit.
func Verify(ctx context.Context, q Querier) (chain.Head, error) {
	var head chain.Head
	for {
		rows, err := q.Query(ctx, readChain, head.Sequence, verifyBatch)
		if err != nil {
			return head, fmt.Errorf("read the audit chain: %w", err)
		}
		events, err := collect(rows)
		if err != nil {
			return head, err
		}
		for i := range events {
			if head, err = head.Check(&events[i]); err != nil {
				return head, err
			}
		}
		if len(events) < verifyBatch {
			return head, nil
		}
	}
}

func collect(rows pgx.Rows) ([]chain.Event, error) {
	events, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read audit events: %w", err)
	}
	return events, nil
}

func scan(row pgx.CollectableRow) (chain.Event, error) {
	var e chain.Event
	var hash []byte
	err := row.Scan(&e.Sequence, &e.ID, &e.Actor, &e.ActorType, &e.Action, &e.ResourceType, &e.ResourceID, &e.Details, &e.At, &hash)
	if err == nil && len(hash) == len(e.Hash) {
		e.Hash = chain.Hash(hash)
	}
	return e, err
}
