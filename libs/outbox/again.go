package outbox

import (
	"context"
	"fmt"
	"time"
)

const againSQL = `INSERT INTO outbox_queue SELECT id, stream FROM outbox WHERE stream = ANY ($1) AND created_at >= $2
ON CONFLICT DO NOTHING`

// Again has the messages of streams published once more that were written since a moment, as far back as they are kept,
// and returns how many that is. Those that wait to be published are not among them. The relay finds them by itself.
func Again(ctx context.Context, db Execer, streams []string, since time.Time) (int64, error) {
	tag, err := db.Exec(ctx, againSQL, streams, since)
	if err != nil {
		return 0, fmt.Errorf("publish again what was written since %s: %w", since.Format(time.RFC3339), err)
	}
	return tag.RowsAffected(), nil
}
