package outbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Keep is how long a message stays after it was published.
const Keep = 30 * 24 * time.Hour

const (
	pruneEvery = time.Hour
	pruneBatch = 2000
	pruneSQL   = `DELETE FROM outbox WHERE id IN (
	SELECT id FROM outbox WHERE sent_at < now() - $1::interval ORDER BY sent_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// Prune deletes messages that were published longer than keep ago, in short statements, and returns how many.
func Prune(ctx context.Context, db Execer, keep time.Duration) (int64, error) {
	var total int64
	for {
		tag, err := db.Exec(ctx, pruneSQL, keep, pruneBatch)
		if err != nil {
			return total, fmt.Errorf("prune outbox: %w", err)
		}
		total += tag.RowsAffected()
		if tag.RowsAffected() < pruneBatch {
			return total, nil
		}
	}
}

func (r *Relay) pruneHourly(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pruneEvery/2 + rand.N(pruneEvery)): //nolint:gosec // spreads load, protects nothing
		}
		if _, err := Prune(ctx, r.Pool, Keep); err != nil && ctx.Err() == nil {
			r.Log.Warn("old messages stay for now", "error", err)
		}
	}
}
