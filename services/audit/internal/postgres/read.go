package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/search"
	"github.com/certctl/certctl/services/audit/internal/chain"
)

const columnList = `sequence, id, actor, actor_type, action, resource_type, resource_id, details::text, happened_at, hash`

// Filter says which events are wanted; empty fields ask for nothing.
type Filter struct {
	Actor, Action, ResourceType, ResourceID string
	Search                                  search.Query
	// Before is the sequence behind which to go on; zero begins with the newest.
	Before        int64
	Limit, Offset int
}

// conditions asks only for what is wanted: a condition that is there for every filter at
// once would keep the planner from the index of the one that is set.
func (f Filter) conditions() (parts []string, args []any) {
	for _, c := range [...]struct{ column, value string }{
		{"actor", f.Actor}, {"action", f.Action}, {"resource_type", f.ResourceType}, {"resource_id", f.ResourceID},
	} {
		if c.value != "" {
			args = append(args, c.value)
			parts = append(parts, c.column+" = $"+strconv.Itoa(len(args)))
		}
	}
	return searched(f.Search, parts, args)
}

func where(parts []string) string {
	if len(parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(parts, " AND ")
}

func (f Filter) listing() (query string, args []any) {
	parts, args := f.conditions()
	if f.Before > 0 {
		args = append(args, f.Before)
		parts = append(parts, "sequence < $"+strconv.Itoa(len(args)))
	}
	args = append(args, f.Limit, f.Offset)
	return fmt.Sprintf("SELECT %s FROM audit_events%s ORDER BY sequence DESC LIMIT $%d OFFSET $%d",
		columnList, where(parts), len(args)-1, len(args)), args
}

// planned has the server plan a query for the values at hand. A plan that is kept for any
// value walks the whole chain for what is rare.
const planned = pgx.QueryExecModeCacheDescribe

// List returns events, newest first.
func List(ctx context.Context, q Querier, f Filter) ([]chain.Event, error) {
	query, args := f.listing()
	rows, err := q.Query(ctx, query, append([]any{planned}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("list audit events: %w", err)
	}
	return collect(rows)
}

// countLimit bounds the work of counting. Totals beyond it are said to be it.
const countLimit = 10_000

// Count returns how many events match, at most 10,000 if anything is asked for. All of
// them are counted by the sequence, which has no gaps.
func Count(ctx context.Context, q Querier, f Filter) (int64, error) {
	parts, args := f.conditions()
	if len(parts) == 0 {
		head, err := Head(ctx, q)
		return head.Sequence, err
	}
	args = append(append([]any{planned}, args...), countLimit)
	query := fmt.Sprintf("SELECT count(*) FROM (SELECT FROM audit_events%s LIMIT $%d) AS bounded", where(parts), len(args)-1)
	var n int64
	if err := q.QueryRow(ctx, query, args...).Scan(&n); err != nil {
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
