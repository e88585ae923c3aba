// Package outbox publishes what a transaction has committed, and nothing else.
//
// A service writes its messages into the table outbox of its own schema, in the transaction of the change that they
// tell of. A Relay takes committed rows to the bus. Each row is published at least once: what a relay that dies has not
// noted yet, what a Postgres that crashes has forgotten, and what a bus acknowledged that was restarted before it can have
// synced is published again, with the same ID. Receivers see to it that this has no effect (package inbox).
//
// Rows of outbox are written once and never changed. Which of them may not be on the bus's disk yet says the table
// outbox_queue, whose rows are narrow and few: a trigger of outbox adds them, and the relay deletes them
// (docs/adr/0010-outbox-queue.md, 0013-hub-syncs-each-second.md).
//
// Order is not promised: identity values commit out of order, several relays publish side by side, and a row that the
// bus refuses is passed over. Receivers compare the version of the aggregate.
//
// Messages stay for 30 days, so that a stream can be filled again.
package outbox

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/libs/internal/pace"
)

// Relay publishes the rows of one outbox. Any number may run on the same table, in one process or in many.
// Set the fields before Run and leave them alone afterwards.
type Relay struct {
	// Pool reaches the schema of the outbox, whose tables its search path finds.
	Pool *pgxpool.Pool
	// Publish has the bus store messages, all of which are of one stream, and returns nil only when all of them are
	// acknowledged. A message that the bus has already counts as published. An error whose code is fault.Unavailable means that
	// the bus is away; any other means that at least one of the messages is refused, and the relay then tries them one
	// by one. It is called for several streams at once.
	Publish func(ctx context.Context, messages []Message) error
	// Settle is how long a server of the bus has to run on until what it acknowledged is on its disk. Zero is for one that
	// syncs before it acknowledges.
	Settle time.Duration
	// Server names the server that the bus is reached through, by a name that is another after each start of it; empty
	// while it is not reached. Nil means that the server never changes.
	Server func() string
	// Streams limits the relay to the rows of these streams. Nil means all.
	Streams []string
	// Log receives what goes wrong. Nil means slog.Default.
	Log *slog.Logger
	// Metrics receives the relay's collectors. Nil means that there are none.
	Metrics prometheus.Registerer
	// Batch is how many rows are claimed and published at once. Zero means 1000.
	Batch int
	// Sweep is how often the table is looked at without being woken. Zero means 250 ms.
	Sweep time.Duration

	once    sync.Once
	wake    chan struct{}
	meters  *meters
	trouble *trouble

	// What follows belongs to Run's goroutine.

	floor    int64 // there was nothing to publish at or below it of late
	newest   int64 // the highest id ever claimed
	mark     int64 // what newest was at markedAt: the next floor
	markedAt time.Time
	lastFull time.Time // when the whole table was last looked at
	released bool      // what was claimed before this relay ran may be claimed again
	settling []settling
	settled  time.Time // when settling was last looked at
	failing  bool      // the last round failed
	pace     pace.Pace
}

const (
	defaultBatch = 1000
	defaultSweep = 250 * time.Millisecond
	fullEvery    = time.Second
	publishLimit = 5 * time.Second
	// claimedFor is how long no other relay takes what one has claimed. It outlasts publishing and settling.
	claimedFor = 10 * time.Second
	// overlap is how much later than others a transaction may commit whose messages were written before theirs, without
	// its messages having to wait for a full look.
	overlap    = 100 * time.Millisecond
	drainLimit = 3 * time.Second
)

// Wake tells the relay that rows have been committed. It never blocks, and wakes that come together count as one.
func (r *Relay) Wake() {
	r.once.Do(r.init)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Relay) init() {
	r.wake = make(chan struct{}, 1)
	r.trouble = newTrouble()
	r.meters = newMeters(r.Metrics, r.Streams)
	if r.Log == nil {
		r.Log = slog.Default()
	}
	if r.Batch == 0 {
		r.Batch = defaultBatch
	}
	if r.Sweep == 0 {
		r.Sweep = defaultSweep
	}
}

// Run publishes until ctx ends, and then once more what is left, for at most three seconds. It returns nil. While the
// database or the bus is away it tries again.
func (r *Relay) Run(ctx context.Context) error {
	r.once.Do(r.init)
	var pruning sync.WaitGroup
	pruning.Go(func() { r.pruneHourly(ctx) })
	defer pruning.Wait()

	// A batch that is on its way when ctx ends is seen through: given up, it would be published twice.
	work, cancel := lingering(ctx)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		woken := false
		select {
		case <-ctx.Done():
			r.pass(work, true)
			return nil
		case <-r.wake:
			woken = true
			r.gather(ctx)
		case <-timer.C:
		}
		r.pass(work, woken)
		timer.Reset(r.Sweep - rand.N(r.Sweep/4+1)) //nolint:gosec // spreads load, protects nothing
	}
}

// gather lets more rows come when there have been many.
func (r *Relay) gather(ctx context.Context) {
	wait := r.pace.Wait(time.Now())
	if wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// pass publishes all rows that are due. Unless the relay was woken it looks first whether there are any.
func (r *Relay) pass(ctx context.Context, woken bool) {
	due, err := true, r.takeOver(ctx)
	if full := time.Since(r.lastFull) >= fullEvery; err == nil && (full || !woken) {
		var found bool
		found, err = r.look(ctx, full)
		due = found || woken
	}
	for due && err == nil {
		due, err = r.round(ctx)
	}
	if err == nil {
		err = r.settle(ctx)
	}
	if (err != nil) != r.failing {
		r.failing = err != nil
		r.logTurn(err)
	}
}

// takeOver lets this relay have at once what one that has died had claimed. What another has that lives is published
// twice.
func (r *Relay) takeOver(ctx context.Context) error {
	if r.released {
		return nil
	}
	if err := r.note(ctx, releaseAllSQL, r.Streams); err != nil {
		return err
	}
	r.released = true
	return nil
}

// logTurn says when the relay stops working and when it works again, not each of the many attempts in between.
func (r *Relay) logTurn(err error) {
	if err != nil {
		r.Log.Error("outbox cannot be relayed; trying again", "error", err)
		return
	}
	r.Log.Info("outbox is relayed again")
}

// lingering returns a context that ends some time after ctx.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-late.Done():
		case <-time.After(drainLimit):
			cancel()
		}
	})
	return late, func() { stop(); cancel() }
}
