// Package inbox makes the second arrival of a message harmless.
//
// A consumer claims the ids of the messages at hand in the transaction of their effect. An id that was claimed before,
// by the same consumer in a transaction that committed, is not fresh: its effect is there already. An id whose
// transaction rolled back is fresh again. Two transactions that claim the same id wait for one another.
//
// Rows are kept for longer than any stream or outbox can bring a message again (Keep), and then pruned.
package inbox

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

const (
	claimNew = `INSERT INTO inbox (consumer, msg_id)
SELECT $1, unnest($2::text[])`
	claim = claimNew + `
ON CONFLICT DO NOTHING
RETURNING msg_id`
)

// ClaimNew is Claim for ids that were hardly taken before, at half its cost: if one of them was, the error is a
// violation of a unique constraint, and tx can only be rolled back.
func ClaimNew(ctx context.Context, tx pgx.Tx, consumer string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	sorted := inOrder(ids)
	if _, err := tx.Exec(ctx, claimNew, consumer, sorted); err != nil {
		return fmt.Errorf("claim %d messages for %s: %w", len(sorted), consumer, err)
	}
	return nil
}

// inOrder returns each id once, in an order that all transactions keep: two that take the same ids in different orders
// would wait for each other.
func inOrder(ids []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(ids)))
}

// Claim marks ids as taken by consumer, in tx, and returns those that it had not taken before, in the order given and
// each once.
func Claim(ctx context.Context, tx pgx.Tx, consumer string, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	sorted := inOrder(ids)
	rows, err := tx.Query(ctx, claim, consumer, sorted)
	if err != nil {
		return nil, fmt.Errorf("claim %d messages for %s: %w", len(sorted), consumer, err)
	}
	claimed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("claim %d messages for %s: %w", len(sorted), consumer, err)
	}
	taken := make(map[string]bool, len(claimed))
	for _, id := range claimed {
		taken[id] = true
	}
	fresh := make([]string, 0, len(claimed))
	for _, id := range ids {
		if taken[id] {
			fresh = append(fresh, id)
			delete(taken, id)
		}
	}
	return fresh, nil
}
