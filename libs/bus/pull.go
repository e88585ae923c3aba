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
	// bindTimeout bounds the question for a consumer, because one that is asked while a server starts may get no answer.
	bindTimeout = time.Second
	// pullExpires bounds one pull request; an idle consumer asks again that often.
	pullExpires = 30 * time.Second
	// pullHeartbeat is how often the server says that it still serves a pull request. Two missed mean that it does not.
	pullHeartbeat = 5 * time.Second
	// drainWait bounds how long messages on their way are waited for when no more are wanted.
	drainWait = 2 * time.Second
	// fallbackAckWait is the server's default, for a consumer that does not say.
	fallbackAckWait = 30 * time.Second
)

var errSilent = errors.New("consumer has pending messages and delivers none")

// session binds the consumer and pulls until the binding is in doubt. It returns nil when the connection was restored,
// because a server that has restarted need not have the consumer any more.
func (k *consumer) session(ctx context.Context, status <-chan nats.Status) error {
	asking, cancel := context.WithTimeout(ctx, bindTimeout)
	bound, err := k.spec.JS.Consumer(asking, k.spec.Stream, k.spec.Durable)
	cancel()
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	ctx, cancel = context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()

	ackWait := bound.CachedInfo().Config.AckWait
	if ackWait <= 0 {
		ackWait = fallbackAckWait
	}
	helpers.Go(func() { k.keepalive(ctx, ackWait/3) })
	helpers.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-status:
				if s == nats.CONNECTED {
					cancel()
					return
				}
			}
		}
	})
	err = k.pull(ctx, bound)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// keepalive keeps the server from delivering again what is still being handled.
func (k *consumer) keepalive(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			k.hand.touch()
		}
	}
}

// pull asks for a batch, hands on what arrives, and asks for the next when all of it has been taken. So at most one
// batch waits while one is handled, and both are kept alive; messages that the client library buffered by itself would
// not be.
func (k *consumer) pull(ctx context.Context, bound jetstream.Consumer) error {
	for {
		k.hand.awaitTaken(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		arriving, err := bound.Messages(jetstream.PullMaxMessages(k.spec.Batch), jetstream.StopAfter(k.spec.Batch),
			jetstream.PullExpiry(pullExpires), jetstream.PullHeartbeat(pullHeartbeat))
		if err != nil {
			return fmt.Errorf("pull: %w", err)
		}
		if err := k.receiveFrom(ctx, bound, arriving); err != nil {
			k.drain(arriving)
			return err
		}
	}
}

// receiveFrom hands on one batch. It returns nil when all of it has come.
func (k *consumer) receiveFrom(ctx context.Context, bound jetstream.Consumer, arriving jetstream.MessagesContext) error {
	for {
		m, err := k.next(ctx, arriving)
		switch {
		case err == nil:
			k.hand.add(m)
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			if err := k.checkSilence(ctx, bound); err != nil {
				return err
			}
		case errors.Is(err, jetstream.ErrMsgIteratorClosed) && !errors.Is(err, jetstream.ErrConnectionClosed):
			return nil
		default:
			return fmt.Errorf("pull: %w", err)
		}
	}
}

func (k *consumer) next(ctx context.Context, arriving jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, k.spec.Silence)
	defer cancel()
	return arriving.Next(jetstream.NextContext(ctx))
}

// drain takes over what was on its way when no more is wanted. Left alone, the server would wait for its
// acknowledgement before it delivers it to someone else.
func (k *consumer) drain(arriving jetstream.MessagesContext) {
	arriving.Drain()
	for {
		m, err := arriving.Next(jetstream.NextMaxWait(drainWait))
		if err != nil {
			arriving.Stop()
			return
		}
		k.hand.add(m)
	}
}

// checkSilence returns an error when the server holds messages for this consumer and has delivered none.
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
