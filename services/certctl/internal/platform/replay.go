package platform

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
)

// publishers are the services with an outbox.
var publishers = []string{"issuer", "deployment", "gateway", "audit"}

// Replay has the services publish again what they wrote to be published to the streams since a moment, as far back as
// outboxes reach (30 days), and returns how many messages that is. What waits to be published is not among them. It is
// harmless at any time: consumers know what they have handled.
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
	n, err := outbox.Again(ctx, pool, streams, since)
	return n, pg.Fault(err)
}
