package postgres

import (
	"context"
	"fmt"
	"time"
)

// BulkKeep is how long bulk operations are shown after they have ended.
const BulkKeep = 90 * 24 * time.Hour

// The items go with their operation.
const pruneBulkSQL = `DELETE FROM bulk_operations WHERE id IN (
	SELECT id FROM bulk_operations WHERE created_at < $1 AND completed_at < $1 ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)`

// PruneBulk forgets bulk operations that ended before a time, one at a time, and returns how many.
func (s *Store) PruneBulk(ctx context.Context, before time.Time) (n int64, err error) {
	for {
		tag, err := s.pool.Exec(ctx, pruneBulkSQL, before)
		if err != nil {
			return n, fmt.Errorf("prune bulk operations: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return n, nil
		}
		n++
	}
}
