// Package audit keeps what happened, by whom, in an order that cannot be rewritten.
//
// It hears every domain event and every call to the API and appends them to one
// hash-linked chain (internal/chain). The database refuses to change or remove what was
// written: the service's role has not the right, and triggers refuse whoever has.
//
// The end of the chain is signed from time to time (internal/notary); what was signed is
// proof against whoever can write to the database but does not hold the key.
//
// Each event is recorded once, however often its message comes: the chain knows it by its id. The order of the
// chain is the order of arrival; the time of an event is its own.
package audit

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/audit/internal/api"
	"github.com/certctl/certctl/services/audit/internal/chain"
	"github.com/certctl/certctl/services/audit/internal/entry"
	"github.com/certctl/certctl/services/audit/internal/notary"
	"github.com/certctl/certctl/services/audit/internal/postgres"
)

// Config is read from CERTCTL_*. Its zero value means the defaults.
type Config struct {
	AuditCheckpointEvents   int64         `split_words:"true" default:"10000" desc:"A checkpoint of the audit chain is signed when so many events have come since the last one."`
	AuditCheckpointInterval time.Duration `split_words:"true" default:"10m" desc:"A checkpoint of the audit chain is signed when any event has come and so much time has passed since the last one."`
}

// Validate implements the check of libs/config.
func (c *Config) Validate() error {
	if c.AuditCheckpointEvents < 1 {
		return errors.New("CERTCTL_AUDIT_CHECKPOINT_EVENTS must be at least 1")
	}
	if c.AuditCheckpointInterval < time.Second {
		return errors.New("CERTCTL_AUDIT_CHECKPOINT_INTERVAL must be at least 1s")
	}
	return nil
}

func (c Config) rule() notary.Rule {
	return notary.Rule{
		Events:   cmp.Or(c.AuditCheckpointEvents, 10_000),
		Interval: cmp.Or(c.AuditCheckpointInterval, 10*time.Minute),
	}
}

const name = "audit"

// batch is how many messages are appended in one transaction. The chain has one writer,
// so its rate is decided here.
const batch = 500

// pace has what happens within so much time appended together. Nobody waits for it: what is to be on record is durable
// on the bus before.
const pace = 50 * time.Millisecond

// Run records and answers until ctx ends.
func Run(ctx context.Context, cfg Config, deps service.Deps) error {
	if deps.Sealer == nil {
		return errors.New("the audit service keeps the key that signs checkpoints sealed: set CERTCTL_SEALING_KEY_FILE")
	}
	relay := deps.Bus.OutboxRelay(deps.DB, deps.Metrics)
	signer, err := notary.Open(ctx, deps, cfg.rule(), relay.Wake)
	if err != nil {
		if ctx.Err() != nil {
			// Told to stop before it had started.
			return nil
		}
		return err
	}
	r := recorder{signer}

	// The relay outlives the rest, so that the last commit is published.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var last errgroup.Group
	last.Go(func() error { return relay.Run(background) })

	g, ctx := errgroup.WithContext(ctx)
	for _, c := range []struct{ stream, durable string }{
		{subject.StreamEvents, subject.ConsumerAuditEvents},
		{subject.StreamAudit, subject.ConsumerAuditRecords},
	} {
		spec := bus.Spec{Stream: c.stream, Durable: c.durable, Batch: batch, Pace: pace, Idempotent: true, DLQSubject: subject.DeadLetter(name, c.durable)}
		g.Go(func() error { return deps.Bus.Consume(ctx, spec, deps.DB, r.record) })
	}
	g.Go(func() error {
		return natshttp.Serve(ctx, deps.Bus.NC, natshttp.Options{
			Service: name, Operations: httpapi.OperationsOf(name), Log: deps.Log,
		}, api.API{Pool: deps.DB, Streams: deps.Bus.JS, Clock: deps.Clock, Log: deps.Log}.Handler())
	})
	g.Go(func() error { return signer.Run(ctx) })
	err = g.Wait()
	stop()
	return errors.Join(err, last.Wait())
}

var checkpointSigned = event.Type(event.CheckpointSigned{})

type recorder struct{ signer *notary.Notary }

// record appends what the messages tell of. A message that cannot be read goes to the
// dead letters by itself: the batch is then tried one by one.
func (r recorder) record(ctx context.Context, tx pgx.Tx, messages []bus.Message) error {
	events := make([]chain.Event, 0, len(messages))
	for _, m := range messages {
		if m.Type == checkpointSigned {
			// Its own word. A checkpoint is on record in a table of its own; as an event it would call for another one.
			continue
		}
		told, err := entry.FromMessage(m)
		if err != nil {
			return fault.Wrap(err, fault.Invalid, "message cannot be put on record")
		}
		events = append(events, told...)
	}
	added, err := postgres.Append(ctx, tx, events)
	if errors.Is(err, postgres.ErrTaken) {
		return fault.Wrap(err, fault.Conflict, "another event is on record under its id")
	}
	if err == nil {
		r.signer.Arrived(added)
	}
	return err
}
