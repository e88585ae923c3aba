// Package audit keeps what happened, by whom, in an order that cannot be rewritten.
//
// It hears every domain event and every call to the API and appends them to one
// hash-linked chain (internal/chain). The database refuses to change or remove what was
// written: the service's role has not the right, and triggers refuse whoever has.
//
// Each message is recorded once, in the transaction of its inbox row. The order of the
// chain is the order of arrival; the time of an event is its own.
package audit

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/inbox"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/audit/internal/api"
	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/entry"
	"github.com/certctl/certctl/services/audit/internal/postgres"
)

// Config has no settings of its own.
type Config struct{}

const name = "audit"

// batch is how many messages are appended in one transaction. The chain has one writer,
// so its rate is decided here.
const batch = 500

// pace has what happens within so much time appended together. Nobody waits for it: what is to be on record is durable
// on the bus before.
const pace = 50 * time.Millisecond

// Run records and answers until ctx ends.
func Run(ctx context.Context, _ Config, deps service.Deps) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range []struct{ stream, durable string }{
		{subject.StreamEvents, subject.ConsumerAuditEvents},
		{subject.StreamAudit, subject.ConsumerAuditRecords},
	} {
		spec := bus.Spec{Stream: c.stream, Durable: c.durable, Batch: batch, Pace: pace, DLQSubject: subject.DeadLetter(name, c.durable)}
		g.Go(func() error { return deps.Bus.Consume(ctx, spec, deps.DB, record) })
	}
	g.Go(func() error {
		return natshttp.Serve(ctx, deps.Bus.NC, natshttp.Options{
			Service: name, Operations: httpapi.OperationsOf(name), Log: deps.Log,
		}, api.API{Pool: deps.DB}.Handler())
	})
	g.Go(func() error { return inbox.PruneHourly(ctx, deps.DB, deps.Log) })
	return g.Wait()
}

// record appends what the messages tell of. A message that cannot be read goes to the
// dead letters by itself: the batch is then tried one by one.
func record(ctx context.Context, tx pgx.Tx, messages []bus.Message) error {
	var events []chain.Event
	for _, m := range messages {
		told, err := entry.FromMessage(m)
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "message cannot be put on record")
		}
		events = append(events, told...)
	}
	err := postgres.Append(ctx, tx, events)
	if pg.IsUnique(err) {
		return fault.Wrap(err, fault.Conflict, "an event is on record already")
	}
	return err
}

// Verify reads the whole chain through pool and returns how many events it holds and
// the hash of the last. The error names the first event that does not fit.
func Verify(ctx context.Context, pool *pgxpool.Pool) (events int64, head [32]byte, err error) {
	h, err := postgres.Verify(ctx, pool)
	return h.Sequence, h.Hash, err
}
