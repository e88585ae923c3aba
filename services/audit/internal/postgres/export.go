package postgres

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/export"
)

// exportBatch is how many rows of an export are in memory at once.
const exportBatch = 500

// Export yields the events that match, up to the place last, in the order of the chain.
// No connection is held between batches, so that a slow reader keeps nobody waiting. It
// ends with the first error.
func Export(ctx context.Context, q Querier, f Filter, last int64) iter.Seq2[export.Row, error] {
	return func(yield func(export.Row, error) bool) {
		first, last, err := bounds(ctx, q, f, last)
		if err != nil {
			yield(export.Row{}, err)
			return
		}
		for at := first - 1; at < last; {
			rows, err := exported(ctx, q, f, at, last)
			if err != nil {
				yield(export.Row{}, err)
				return
			}
			for i := range rows {
				if !yield(rows[i], nil) {
					return
				}
			}
			if len(rows) < exportBatch {
				return
			}
			at = rows[len(rows)-1].Sequence
		}
	}
}

// bounds narrows an export to the places within its range of time, which an index tells
// without the table. The chain is otherwise walked from its beginning for a range at its
// end, since the planner knows nothing of how places and times go together. The subquery
// keeps it from doing so here: it would look for the least place by walking the chain.
func bounds(ctx context.Context, q Querier, f Filter, last int64) (from, to int64, err error) {
	if f.Since.IsZero() && f.Until.IsZero() {
		return 1, last, nil
	}
	parts, args := Filter{Since: f.Since, Until: f.Until}.conditions()
	query := "SELECT COALESCE(min(s), 1), COALESCE(max(s), 0) FROM (SELECT sequence AS s FROM audit_events" + where(parts) + " OFFSET 0) AS within"
	if err := q.QueryRow(ctx, query, append([]any{planned}, args...)...).Scan(&from, &to); err != nil {
		return 0, 0, fmt.Errorf("find where the export begins and ends: %w", err)
	}
	return from, min(to, last), nil
}

func (f Filter) exporting(after, last int64) (query string, args []any) {
	parts, args := f.conditions()
	args = append(args, after, last)
	n := len(args)
	parts = append(parts, "sequence > $"+strconv.Itoa(n-1), "sequence <= $"+strconv.Itoa(n))
	return fmt.Sprintf(`SELECT %s, (SELECT p.hash FROM audit_events p WHERE p.sequence = e.sequence - 1)
FROM audit_events e%s ORDER BY sequence LIMIT %d`, columnList, where(parts), exportBatch), args
}

func exported(ctx context.Context, q Querier, f Filter, after, last int64) ([]export.Row, error) {
	query, args := f.exporting(after, last)
	rows, err := q.Query(ctx, query, append([]any{planned}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("export audit events: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (export.Row, error) {
		var r export.Row
		var previous []byte
		err := scanInto(row, &r.Event, &previous)
		if len(previous) == len(r.Previous) {
			r.Previous = chain.Hash(previous)
		}
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("export audit events: %w", err)
	}
	return out, nil
}
