package bus

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/libs/internal/pace"
	"github.com/certctl/certctl/libs/retry"
)

const (
	defaultBatch   = 64
	defaultSilence = time.Minute
	// maxDelivered is how often a message is tried. The server's own limit (MaxDeliver) lies above it, so that the
	// message reaches the dead letters with its error, and the server's limit is only the backstop.
	maxDelivered = 10
	// stopGrace is how long the batch in hand may go on after the consumer was told to stop.
	stopGrace = 10 * time.Second
)

var (
	// redelivery delays a message that failed.
	redelivery = retry.Policy{Base: 500 * time.Millisecond, Cap: 10 * time.Minute, Jitter: 0.3}
	// outage delays the next try while the database is away, rebinding the next binding while the consumer is.
	outage    = retry.Policy{Base: 100 * time.Millisecond, Cap: 5 * time.Second, Jitter: 0.3}
	rebinding = retry.Policy{Base: 50 * time.Millisecond, Cap: 5 * time.Second, Jitter: 0.3}
)

// Handler has the effects of messages, within tx. The messages are new to this consumer (but see Spec.Idempotent) and in
// the order of their stream. The code of its error decides over a message: fault.VerdictOf. It may be called again for the same messages,
// one by one, when it fails for several, so it must have no effect outside tx.
type Handler func(ctx context.Context, tx pgx.Tx, batch []Message) error

// Spec says what to consume and what to do with what cannot be handled.
type Spec struct {
	// Stream and Durable name the consumer, which must exist (see Manifest). Durable is also its name in the inbox.
	Stream, Durable string
	// JS is the JetStream to read from; nil is the connection's.
	JS jetstream.JetStream
	// Batch is the most messages in one transaction. Zero is 64.
	Batch int
	// Idempotent says that the handler itself sees to it that a message which comes again has no further effect, also
	// beside others in one batch and at once in another transaction: by a key of what it writes, say. Nothing is then
	// kept in an inbox, and a message counts as new whenever it comes.
	Idempotent bool
	// Pace is the least time between the beginnings of two batches that are not full ones, for a consumer whose effects
	// nobody waits for: a message that comes alone is handled at once, of those that come one behind the other many are
	// handled together. Zero is none.
	Pace time.Duration
	// DLQSubject is where dead letters go, such as "certctl.dlq.issuer.issuer-evt". Required.
	DLQSubject string
	// DLQ is the JetStream with the dead letters' stream; nil is JS.
	DLQ jetstream.JetStream
	// Committed is called after each commit that had fresh messages, to wake what the handler made work for.
	Committed func()
	// Retry delays a message that failed. Zero is half a second, doubled with each delivery up to ten minutes.
	Retry retry.Policy
	// Silence is how long a consumer with pending messages may deliver nothing before it is bound again. Zero is a
	// minute.
	Silence time.Duration
}

func (s *Spec) complete(c *Conn) error {
	if s.Stream == "" || s.Durable == "" || s.DLQSubject == "" {
		return fmt.Errorf("consume %s/%s: stream, durable and dead letters' subject are required", s.Stream, s.Durable)
	}
	if s.JS == nil {
		s.JS = c.JS
	}
	if s.DLQ == nil {
		s.DLQ = s.JS
	}
	if s.Batch == 0 {
		s.Batch = defaultBatch
	}
	if s.Silence == 0 {
		s.Silence = defaultSilence
	}
	if s.Retry == (retry.Policy{}) {
		s.Retry = redelivery
	}
	if s.Committed == nil {
		s.Committed = func() {}
	}
	return nil
}

type consumer struct {
	spec    Spec
	pool    *pgxpool.Pool
	handle  Handler
	log     *slog.Logger
	metrics *metrics
	hand    *hand
}

// Consume handles the messages of a durable consumer until ctx ends; then it finishes the batch in hand (for at most
// 10 s), gives the rest back to the server and returns nil. It fails only on a Spec that can never work.
//
// What has arrived is handled in one transaction: the inbox, if there is need of one, drops what this consumer has had
// before, the handler has the effects of the rest, and after the commit all are acknowledged. While one batch is handled the next is gathered,
// so batches grow with the load; when messages come in hundreds a second batches are spaced by some milliseconds, and a
// lone message waits for nothing. A batch that fails is tried message by message.
//
// A message whose handler fails is delivered again after a growing delay; one that can never be handled, cannot be
// decoded, or has failed ten times is stored as a dead letter and then ended. A panic of the handler is a failure. While the
// database is away nothing is tried or counted: the messages are kept. A consumer that is missing, deleted or silent is
// bound again until it is there.
func (c *Conn) Consume(ctx context.Context, spec Spec, pool *pgxpool.Pool, handle Handler) error {
	if err := spec.complete(c); err != nil {
		return err
	}
	k := &consumer{
		spec: spec, pool: pool, handle: handle, metrics: c.metrics, hand: newHand(),
		log: c.log.With("consumer", spec.Durable, "stream", spec.Stream),
	}
	var receiver sync.WaitGroup
	receiver.Go(func() { c.receive(ctx, k) })

	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	endGrace := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(stopGrace, cancel)
		context.AfterFunc(work, func() { timer.Stop() })
	})
	defer endGrace()

	var busy pace.Pace
	for {
		batch := k.hand.take(ctx, spec.Batch)
		if batch == nil {
			break
		}
		began := time.Now()
		k.process(ctx, work, batch)
		k.hand.done()
		busy.Done(len(batch), time.Now())
		if len(batch) < spec.Batch {
			pause(ctx, max(spec.Pace-time.Since(began), busy.Wait(time.Now())))
		}
	}
	receiver.Wait()
	k.hand.giveBack()
	if err := c.NC.FlushTimeout(time.Second); err != nil {
		k.log.Warn("acknowledgements may be lost; messages will come again", "error", err)
	}
	return nil
}

// pause waits for d, or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// receive binds the consumer, and again whenever the binding is in doubt.
func (c *Conn) receive(ctx context.Context, k *consumer) {
	up := c.NC.StatusChanged()
	defer c.NC.RemoveStatusListener(up)
	for failures := 1; ; failures++ {
		started := time.Now()
		err := k.session(ctx, up)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > rebinding.Cap {
			failures = 1
		}
		if err != nil {
			k.metrics.rebinds.WithLabelValues(k.spec.Durable).Inc()
			k.log.Warn("consumer is bound again", "error", err, "failures", failures)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rebinding.Delay(failures, nil)):
		}
	}
}
