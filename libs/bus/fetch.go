package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// fetchExpires bounds one pull request; an idle consumer asks again that often.
	fetchExpires = 30 * time.Second
	// fallbackAckWait is the server's default, for a consumer that does not say.
	fallbackAckWait = 30 * time.Second
)

// session binds the consumer and pulls until the binding is in doubt. It returns nil when the connection was restored,
// because a pull request does not outlive the connection it was made on.
func (k *consumer) session(ctx context.Context, c *Conn, status <-chan nats.Status) error {
	bound, err := k.spec.JS.Consumer(ctx, k.spec.Stream, k.spec.Durable)
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()

	ackWait := bound.CachedInfo().Config.AckWait
	if ackWait <= 0 {
		ackWait = fallbackAckWait
	}
	helpers.Go(func() { k.keepalive(ctx, ackWait/3) })

	var restored bool
	helpers.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-status:
				if s == nats.CONNECTED {
					restored = true
					cancel()
					return
				}
			}
		}
	})
	err = k.pull(ctx, bound)
	cancel()
	helpers.Wait()
	if restored {
		return nil
	}
	return err
}

// pull asks for a batch, hands on what arrives, and asks for the next when all of it has been taken. So at most one
// batch waits while one is handled, and both are kept alive.
func (k *consumer) pull(ctx context.Context, bound jetstream.Consumer) error {
	heard := time.Now()
	for {
		k.hand.awaitTaken(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		expires, cancel := context.WithTimeout(ctx, min(fetchExpires, k.spec.Silence))
		fetched, err := bound.Fetch(k.spec.Batch, jetstream.FetchContext(expires))
		if err != nil {
			cancel()
			return fmt.Errorf("fetch: %w", err)
		}
		for m := range fetched.Messages() {
			k.hand.add(m)
			heard = time.Now()
		}
		err = fetched.Error()
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("fetch: %w", err)
		}
		if time.Since(heard) >= k.spec.Silence {
			if err := k.checkSilence(ctx, bound); err != nil {
				return err
			}
			heard = time.Now()
		}
	}
}

// checkSilence returns an error when the server holds messages for this consumer and has delivered none. Messages that
// wait for their redelivery, or are with other replicas, are no silence unless they fill the consumer's window.
func (k *consumer) checkSilence(ctx context.Context, bound jetstream.Consumer) error {
	info, err := bound.Info(ctx)
	if err != nil {
		return fmt.Errorf("ask about a silent consumer: %w", err)
	}
	if info.NumPending == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d pending, %d of at most %d unacknowledged",
		errSilent, info.NumPending, info.NumAckPending, info.Config.MaxAckPending)
}
