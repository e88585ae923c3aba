package platform

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/pg"
)

// publishers are the services with an outbox.
var publishers = []string{"issuer", "deployment", "gateway", "audit"}

const markUnsent = `UPDATE outbox SET sent_at = NULL WHERE stream = ANY ($1) AND sent_at >= $2`

// Replay has the services publish again what they published to the streams since a
// moment, as far back as outboxes reach (30 days), and returns how many messages that
// is. It is harmless at any time: consumers know what they have handled.
func (d *Database) Replay(ctx context.Context, streams []string, since time.Time) (int64, error) {
	var total int64
	for _, service := range publishers {
		n, err := d.replay(ctx, service, streams, since)
		if err != nil {
			return total, fmt.Errorf("replay the outbox of %s: %w", service, err)
		}
		total += n
	}
	return total, nil
}

func (d *Database) replay(ctx context.Context, service string, streams []string, since time.Time) (int64, error) {
	pool, err := d.Pool(ctx, service)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	tag, err := pool.Exec(ctx, markUnsent, streams, since)
	return tag.RowsAffected(), pg.Fault(err)
}
