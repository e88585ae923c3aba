package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/inbox"
	"github.com/certctl/certctl/libs/pg"
)

// delivery is a message with what is needed to settle it.
type delivery struct {
	Message
	raw jetstream.Msg
}

// errStopped ends the attempts at messages that are given back because the consumer stops.
var errStopped = errors.New("consumer stops")

// process settles every message of a batch, except when the consumer is stopped during an outage. stop ends waiting,
// work ends handling.
func (k *consumer) process(stop, work context.Context, msgs []jetstream.Msg) {
	started := time.Now()
	batch := make([]delivery, 0, len(msgs))
	for _, raw := range msgs {
		d, err := decodeDelivery(raw)
		switch {
		case err != nil:
			k.deadLetter(work, d, err)
		case d.Delivered > maxDelivered:
			k.deadLetter(work, d, fmt.Errorf("delivered %d times and never finished", d.Delivered))
		default:
			batch = append(batch, d)
		}
	}
	if len(batch) == 0 {
		return
	}
	// A redelivered message arrives among later ones.
	slices.SortFunc(batch, func(a, b delivery) int { return cmp.Compare(a.Sequence, b.Sequence) })
	k.attempt(stop, work, batch)
	k.metrics.batches.WithLabelValues(k.spec.Durable).Observe(float64(len(batch)))
	k.metrics.seconds.WithLabelValues(k.spec.Durable).Observe(sinceSeconds(started))
}

func decodeDelivery(raw jetstream.Msg) (delivery, error) {
	m, err := Decode(raw.Subject(), raw.Headers(), raw.Data())
	d := delivery{Message: m, raw: raw}
	meta, metaErr := raw.Metadata()
	if metaErr != nil {
		return d, fmt.Errorf("metadata of a message on %s: %w", raw.Subject(), metaErr)
	}
	d.Stream, d.Sequence, d.Delivered = meta.Stream, meta.Sequence.Stream, int(meta.NumDelivered) //nolint:gosec // a count
	return d, err
}

func (k *consumer) attempt(stop, work context.Context, batch []delivery) {
	changed, err := k.transact(stop, work, batch)
	switch {
	case err == nil:
		if changed {
			k.spec.Committed()
		}
		for _, d := range batch {
			k.settled(d, "done", d.raw.Ack())
		}
	case errors.Is(err, errStopped):
		for _, d := range batch {
			k.settled(d, "retry", d.raw.Nak())
		}
	case len(batch) == 1:
		k.judge(work, batch[0], err)
	default:
		k.log.Debug("batch failed and is tried one by one", "messages", len(batch), "error", err)
		for i := range batch {
			k.attempt(stop, work, batch[i:i+1])
		}
	}
}

// transact has the effects of the batch, once, and reports whether there were any. It tries again for as long as it is
// the database that fails; what a commit of unknown outcome did is then found in the inbox.
func (k *consumer) transact(stop, work context.Context, batch []delivery) (bool, error) {
	for n := 1; ; n++ {
		fresh, err, outside := k.once(work, batch)
		if err == nil {
			return fresh > 0 || n > 1, nil
		}
		if work.Err() != nil {
			return false, errStopped
		}
		if !outside {
			return false, err
		}
		k.log.Error("database is away; messages are kept and tried again", "messages", len(batch), "attempt", n, "error", err)
		select {
		case <-stop.Done():
			return false, errStopped
		case <-time.After(outage.Delay(n, nil)):
		}
	}
}

// once runs one transaction. outside reports that the error is not the handler's: the database did not take part.
func (k *consumer) once(ctx context.Context, batch []delivery) (fresh int, err error, outside bool) {
	ids := make([]string, len(batch))
	again := false
	for i, d := range batch {
		ids[i] = d.ID
		again = again || d.Delivered > 1
	}
	var handled, broken bool
	var refused error
	transact := func(claim func(context.Context, pgx.Tx, []string) ([]string, error)) error {
		return pg.InTx(ctx, k.pool, func(tx pgx.Tx) error {
			fresh, handled, broken, refused = 0, false, false, nil
			claimed, err := claim(ctx, tx, ids)
			if err != nil {
				return err
			}
			handled = true
			if len(claimed) == 0 {
				return nil
			}
			msgs := pick(batch, claimed)
			fresh = len(msgs)
			refused = k.call(ctx, tx, msgs)
			broken = tx.Conn().IsClosed()
			return refused
		})
	}
	claim := k.claimNew
	if again && !k.spec.Idempotent {
		claim = k.claim
	}
	err = transact(claim)
	if !handled && pg.IsUnique(err) {
		err = transact(k.claim)
	}
	if err == nil {
		return fresh, nil, false
	}
	commitLost := refused == nil && (pg.IsUnavailable(err) || errors.Is(err, pg.ErrCommitUnknown))
	return 0, err, !handled || broken || commitLost
}

// claim returns the ids that this consumer has not had before, and marks them as had.
func (k *consumer) claim(ctx context.Context, tx pgx.Tx, ids []string) ([]string, error) {
	return inbox.Claim(ctx, tx, k.spec.Durable, ids)
}

// claimNew does the same if they all are new, as almost all are that come for the first time, and is a violation of a
// unique constraint otherwise. Where there is no inbox it has nothing to do.
func (k *consumer) claimNew(ctx context.Context, tx pgx.Tx, ids []string) ([]string, error) {
	if k.spec.Idempotent {
		return ids, nil
	}
	return ids, inbox.ClaimNew(ctx, tx, k.spec.Durable, ids)
}

// pick returns the messages whose ids were claimed, once each.
func pick(batch []delivery, claimed []string) []Message {
	left := make(map[string]bool, len(claimed))
	for _, id := range claimed {
		left[id] = true
	}
	msgs := make([]Message, 0, len(claimed))
	for _, d := range batch {
		if left[d.ID] {
			delete(left, d.ID)
			msgs = append(msgs, d.Message)
		}
	}
	return msgs
}

func (k *consumer) call(ctx context.Context, tx pgx.Tx, msgs []Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			k.log.Error("handler panicked", "panic", p, "stack", string(debug.Stack()))
			err = fault.Wrap(fmt.Errorf("panic: %v", p), fault.Internal, "handler panicked")
		}
	}()
	return k.handle(ctx, tx, msgs)
}

// judge settles one message whose handler has failed.
func (k *consumer) judge(ctx context.Context, d delivery, err error) {
	verdict := fault.VerdictOf(err)
	switch {
	case verdict == fault.Ack:
		k.settled(d, "done", d.raw.Ack())
	case verdict == fault.Term || d.Delivered >= maxDelivered:
		k.deadLetter(ctx, d, err)
	default:
		delay := max(k.spec.Retry.Delay(d.Delivered, nil), fault.From(err).RetryAfter)
		k.log.Warn("message failed and comes again", "message", d.ID, "type", d.Type, "delivered", d.Delivered,
			"delay", delay, "error", err)
		k.settled(d, "retry", d.raw.NakWithDelay(delay))
	}
}

// settled counts an outcome. An acknowledgement that was not sent only means that the message comes again.
func (k *consumer) settled(d delivery, outcome string, err error) {
	k.metrics.messages.WithLabelValues(k.spec.Durable, outcome).Inc()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		k.log.Warn("message could not be settled and comes again", "message", d.ID, "outcome", outcome, "error", err)
	}
}
