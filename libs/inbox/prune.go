package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Keep is how long an id is remembered: the 30 days that a published message stays in an outbox, from which it may be
// published anew into a stream that keeps it for 30 more, and a month to spare.
const Keep = 90 * 24 * time.Hour

const (
	pruneEvery = time.Hour
	pruneBatch = 5000
	pruneSQL   = `DELETE FROM inbox WHERE (consumer, msg_id) IN (
	SELECT consumer, msg_id FROM inbox WHERE received_at < now() - $1::interval
	ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// Execer runs a statement: a transaction, a connection, or a pool.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Prune forgets ids that were claimed longer than keep ago, in short statements, and returns how many.
func Prune(ctx context.Context, db Execer, keep time.Duration) (int64, error) {
	var total int64
	for {
		tag, err := db.Exec(ctx, pruneSQL, keep, pruneBatch)
		if err != nil {
			return total, fmt.Errorf("prune inbox: %w", err)
		}
		total += tag.RowsAffected()
		if tag.RowsAffected() < pruneBatch {
			return total, nil
		}
	}
}

// PruneHourly prunes what is older than Keep about once an hour, until ctx ends. It returns nil. Any number of
// replicas may do this at once.
func PruneHourly(ctx context.Context, db Execer, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pruneEvery/2 + rand.N(pruneEvery)): //nolint:gosec // spreads load, protects nothing
		}
		if _, err := Prune(ctx, db, Keep); err != nil && ctx.Err() == nil {
			log.Warn("old inbox rows stay for now", "error", err)
		}
	}
}
