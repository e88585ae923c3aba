package inbox

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/pg"
)

// Keep is how long an id is remembered: the 30 days that a published message stays in an outbox, from which it may be
// published anew into a stream that keeps it for 30 more, and a month to spare.
const Keep = 90 * 24 * time.Hour

// Prune forgets ids that were claimed longer than keep ago, and returns how many. It is for callers who come back: one
// call may not see all of a very large inbox (pg.Sweep).
func Prune(ctx context.Context, db pg.Sweeper, keep time.Duration) (int64, error) {
	n, err := pg.Sweep(ctx, db, "inbox", "received_at < now() - $1::interval", keep)
	if err != nil {
		return n, fmt.Errorf("prune inbox: %w", err)
	}
	return n, nil
}
