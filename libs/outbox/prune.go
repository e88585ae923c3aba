package outbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Keep is how long a message stays after it was written. One that is not published yet stays for as long as that takes.
const Keep = 30 * 24 * time.Hour

const (
	pruneEvery = time.Hour
	pruneBatch = 2000

	// Ids grow with time, but for what transactions that overlap do to them. So the messages that are old lie before the
	// first that is not, by their primary key, and no other index is needed to find them. What is not published yet is
	// passed over.
	pruneSQL = `DELETE FROM outbox WHERE id IN (
	SELECT id FROM outbox o
	WHERE id < (SELECT coalesce((SELECT id FROM outbox WHERE created_at >= now() - $1::interval ORDER BY id LIMIT 1), 9223372036854775807))
		AND NOT EXISTS (SELECT FROM outbox_queue q WHERE q.id = o.id)
	ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)`

	// A message that somebody has deleted by hand is not there to be published.
	orphansSQL = `DELETE FROM outbox_queue q WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.id = q.id)`
)

// Prune deletes messages that were written longer than keep ago and are published, in short statements, and returns how
// many.
func Prune(ctx context.Context, db Execer, keep time.Duration) (int64, error) {
	if _, err := db.Exec(ctx, orphansSQL); err != nil {
		return 0, fmt.Errorf("prune queue of outbox: %w", err)
	}
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
