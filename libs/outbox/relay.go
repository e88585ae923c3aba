// Package outbox publishes what a transaction has committed, and nothing else.
//
// A service writes its messages into the table outbox of its own schema, in the transaction of the change that they
// tell of. A Relay takes committed rows to the bus. Each row is published at least once: a relay that dies between the
// bus's acknowledgement and its own commit leaves the row to be published again, with the same ID, by the next one.
// Receivers see to it that this has no effect (package inbox).
//
// Order is not promised: identity values commit out of order, several relays publish side by side, and a row that the
// bus refuses is passed over. Receivers compare the version of the aggregate.
//
// Rows stay for 30 days after they were published, so that a stream can be filled again.
package outbox

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Relay publishes the rows of one outbox. Any number may run on the same table, in one process or in many.
// Set the fields before Run and leave them alone afterwards.
type Relay struct {
	// Pool reaches the schema of the outbox.
	Pool *pgxpool.Pool
	// Publish makes messages durable on the bus, all of which are of one stream, and returns nil only when all of them
	// are. A message that the bus has already counts as published. An error whose code is fault.Unavailable means that
	// the bus is away; any other means that at least one of the messages is refused.
	Publish func(ctx context.Context, messages []Message) error
	// Streams limits the relay to the rows of these streams. Nil means all.
	Streams []string
	// Log receives what goes wrong. Nil means slog.Default.
	Log *slog.Logger
	// Metrics receives the relay's collectors. Nil means that there are none.
	Metrics prometheus.Registerer
	// Batch is how many rows are claimed and published at once. Zero means 250.
	Batch int
	// Sweep is how often the table is looked at without being woken. Zero means 250 ms.
	Sweep time.Duration

	once sync.Once
	wake chan struct{}
}

// Wake tells the relay that rows have been committed. It never blocks, and wakes that come together count as one.
func (r *Relay) Wake() {
	r.once.Do(r.init)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Relay) init() { r.wake = make(chan struct{}, 1) }

// Run publishes until ctx ends, and then once more what is left, for at most three seconds. It returns nil.
func (r *Relay) Run(ctx context.Context) error {
	r.once.Do(r.init)
	<-ctx.Done()
	return nil
}
