package postgres

import (
	"context"

	"github.com/certctl/certctl/libs/pg"
)

// Count returns how many events match; totals remembers estimates of what is much. All of
// them are counted by the sequence, which has no gaps.
func Count(ctx context.Context, totals *pg.Totals, q Querier, f Filter) (int64, error) {
	parts, args := f.conditions()
	if len(parts) == 0 {
		head, err := Head(ctx, q)
		return head.Sequence, err
	}
	return totals.Count(ctx, q, "audit_events", where(parts), append([]any{planned}, args...))
}
