package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Keep is how long an id is remembered: the 30 days that a published message stays in an outbox, from which it may be
// published anew into a stream that keeps it for 30 more, and a month to spare.
const Keep = 90 * 24 * time.Hour

const (
	// prunePages is how much of the table is looked at by one statement, 8 MB, and pruneParts how many such parts by one
	// call of Prune.
	prunePages = 1000
	pruneParts = 10

	partsSQL = `SELECT (pg_relation_size('inbox') / current_setting('block_size')::bigint + $1 - 1) / $1`
	pruneSQL = `DELETE FROM inbox WHERE ctid >= format('(%s,0)', $1::bigint)::tid AND ctid < format('(%s,0)', $2::bigint)::tid
	AND received_at < now() - $3::interval`
)

// DB runs statements: a transaction, a connection, or a pool.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Prune forgets ids that were claimed longer than keep ago, in short statements, and returns how many.
//
// No index says which those are: each message would pay for it, and three months later there is time to look. A call
// looks at 80 MB of the table from a random part on, which is all of it unless very much is going on, so that callers
// who come back see all of it in the end.
func Prune(ctx context.Context, db DB, keep time.Duration) (int64, error) {
	var parts int64
	if err := db.QueryRow(ctx, partsSQL, prunePages).Scan(&parts); err != nil {
		return 0, fmt.Errorf("prune inbox: %w", err)
	}
	if parts == 0 {
		return 0, nil
	}
	var total int64
	first := rand.N(parts) //nolint:gosec // spreads load, protects nothing
	for i := range min(parts, pruneParts) {
		page := (first + i) % parts * prunePages
		tag, err := db.Exec(ctx, pruneSQL, page, page+prunePages, keep)
		if err != nil {
			return total, fmt.Errorf("prune inbox: %w", err)
		}
		total += tag.RowsAffected()
	}
	return total, nil
}
