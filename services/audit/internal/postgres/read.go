package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/search"
	"github.com/certctl/certctl/services/audit/internal/chain"
)

const columnList = `sequence, id, actor, actor_type, action, resource_type, resource_id, details::text, happened_at, hash`

// Filter says which events are wanted; empty fields ask for nothing.
type Filter struct {
	Actor, Action, ResourceType, ResourceID string
	// Since is the first moment that is wanted, Until the first that is not any more.
	Since, Until time.Time
	Search       search.Query
	// Behind is the place behind which to go on; the zero place begins with the newest.
	Behind        Place
	Limit, Offset int
}

// Place is where an event stands in a list.
type Place struct {
	At       time.Time
	Sequence int64
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
	if !f.Since.IsZero() {
		args = append(args, microsecond(f.Since))
		parts = append(parts, "happened_at >= $"+strconv.Itoa(len(args)))
	}
	if !f.Until.IsZero() {
		args = append(args, microsecond(f.Until))
		parts = append(parts, "happened_at < $"+strconv.Itoa(len(args)))
	}
	return searched(f.Search, parts, args)
}

// microsecond rounds up: an event within the microsecond before t is before t.
func microsecond(t time.Time) time.Time {
	return t.Add(time.Microsecond - 1).Truncate(time.Microsecond)
}

func where(parts []string) string {
	if len(parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(parts, " AND ")
}

func (f Filter) listing() (query string, args []any) {
	parts, args := f.conditions()
	if f.Behind.Sequence > 0 {
		args = append(args, f.Behind.At, f.Behind.Sequence)
		parts = append(parts, fmt.Sprintf("(happened_at, sequence) < ($%d, $%d)", len(args)-1, len(args)))
	}
	args = append(args, f.Limit, f.Offset)
	return fmt.Sprintf("SELECT %s FROM audit_events%s ORDER BY happened_at DESC, sequence DESC LIMIT $%d OFFSET $%d",
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

func collect(rows pgx.Rows) ([]chain.Event, error) {
	events, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read audit events: %w", err)
	}
	return events, nil
}

func scan(row pgx.CollectableRow) (chain.Event, error) {
	var e chain.Event
	err := scanInto(row, &e)
	return e, err
}

// scanInto reads the columns of columnList, and more behind them.
func scanInto(row pgx.CollectableRow, e *chain.Event, more ...any) error {
	var hash []byte
	err := row.Scan(append([]any{
		&e.Sequence, &e.ID, &e.Actor, &e.ActorType, &e.Action, &e.ResourceType, &e.ResourceID, &e.Details, &e.At, &hash,
	}, more...)...)
	if err == nil && len(hash) == len(e.Hash) {
		e.Hash = chain.Hash(hash)
	}
	return err
}
