package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/agent/internal/order"
)

const (
	// atOnce is how many orders are held; the durable lets no more be pending.
	atOnce   = 4
	pullWait = 30 * time.Second
	// againAfter is when an order comes again whose report could not be kept.
	againAfter = 10 * time.Second
)

// binding tries again while the leaf is there and does not let the agent work.
var binding = retry.Policy{Base: 250 * time.Millisecond, Cap: 30 * time.Second, Jitter: 0.3}

// lanes carry orders out. Those of one lane follow one another: two deployments at
// once would see each other's half-done files when they test the configuration. A key
// that takes its time does not hold up a deployment.
type lanes struct {
	deploy, other chan delivery
	free          chan struct{} // one token for each order that may still be held
	wait          sync.WaitGroup
}

type delivery struct {
	msg   jetstream.Msg
	order order.Order
	done  chan struct{}
}

func (l *Link) startLanes(ctx context.Context) *lanes {
	s := &lanes{
		deploy: make(chan delivery, atOnce), other: make(chan delivery, atOnce),
		free: make(chan struct{}, atOnce),
	}
	for range atOnce {
		s.free <- struct{}{}
	}
	for _, lane := range []chan delivery{s.deploy, s.other} {
		s.wait.Go(func() {
			for d := range lane {
				l.carryOut(ctx, d)
				s.free <- struct{}{}
			}
		})
	}
	return s
}

// stop waits until what was begun is finished.
func (s *lanes) stop() {
	close(s.deploy)
	close(s.other)
	s.wait.Wait()
}

func (l *Link) carryOut(ctx context.Context, d delivery) {
	defer close(d.done)
	err := l.Handler.Do(ctx, d.order)
	switch {
	case err == nil:
		err = d.msg.Ack()
	case ctx.Err() != nil:
		err = d.msg.Nak()
	default:
		l.Log.ErrorContext(ctx, "order will be tried again", "job_id", d.order.JobID, "attempt", d.order.Attempt, "error", err)
		err = d.msg.NakWithDelay(againAfter)
	}
	if err != nil {
		// It comes again by itself, and is answered from the journal.
		l.Log.DebugContext(ctx, "order not acknowledged", "job_id", d.order.JobID, "error", err)
	}
}

// pull takes orders for as long as ctx lasts.
func (l *Link) pull(ctx context.Context, s *lanes) {
	for attempt := 1; ctx.Err() == nil; attempt++ {
		up, err := l.presence.wait(ctx)
		if err != nil {
			return
		}
		began := time.Now()
		err = l.session(ctx, up, s)
		if up.Err() != nil {
			attempt = 0
			continue
		}
		if time.Since(began) > binding.Cap {
			attempt = 1
		}
		l.Log.Warn("not taking orders, trying again", "error", err)
		pause(up, binding.Delay(attempt, nil))
	}
}

// session makes sure that the agent's durable is there, and takes orders from it until
// something is wrong or the connection is lost.
func (l *Link) session(ctx, up context.Context, s *lanes) error {
	me := l.Identity.Current().AgentID
	if _, err := request[json.RawMessage](up, l.nc, subject.SiteRequest(me, command.VerbHello), struct{}{}); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	durable, err := l.js.Consumer(up, subject.StreamSiteCommands, me)
	if err != nil {
		return fmt.Errorf("bind to the orders: %w", err)
	}
	l.Log.Info("taking orders")
	for {
		n, err := s.take(ctx, up)
		if err != nil {
			return err
		}
		if err := l.fetch(up, durable, n, s); err != nil {
			return err
		}
	}
}

// take waits for room and returns how many orders may be taken.
func (s *lanes) take(ctx, up context.Context) (n int, err error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-up.Done():
		return 0, up.Err()
	case <-s.free:
	}
	for n = 1; n < atOnce; n++ {
		select {
		case <-s.free:
		default:
			return n, nil
		}
	}
	return n, nil
}

// fetch asks for up to n orders, and hands each on as it arrives.
func (l *Link) fetch(up context.Context, durable jetstream.Consumer, n int, s *lanes) error {
	defer func() {
		for range n {
			s.free <- struct{}{}
		}
	}()
	ctx, cancel := context.WithTimeout(up, pullWait)
	defer cancel()
	batch, err := durable.Fetch(n, jetstream.FetchContext(ctx))
	if err != nil {
		return fmt.Errorf("ask for orders: %w", err)
	}
	// Well within the time that the durable gives to acknowledge.
	signs := durable.CachedInfo().Config.AckWait / 3
	for msg := range batch.Messages() {
		if l.accept(up, msg, signs, s) {
			n--
		}
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("wait for orders: %w", err)
	}
	return up.Err()
}

// accept hands an order that can be trusted to its lane. A sign of life is given for it
// at each interval from then on.
func (l *Link) accept(ctx context.Context, msg jetstream.Msg, signs time.Duration, s *lanes) bool {
	var signed command.Signed
	err := json.Unmarshal(msg.Data(), &signed)
	var o order.Order
	if err == nil {
		o, err = order.Read(signed, origin(msg), l.Identity.Current())
	}
	if err != nil {
		l.Log.ErrorContext(ctx, "order refused", "subject", msg.Subject(), "error", err)
		if err := msg.TermWithReason("not trusted"); err != nil {
			l.Log.DebugContext(ctx, "order not ended", "subject", msg.Subject(), "error", err)
		}
		return false
	}
	d := delivery{msg: msg, order: o, done: make(chan struct{})}
	go d.keepAlive(signs)
	// What is looked at must not be in the middle of a deployment.
	if o.Verb == command.VerbDeploy || o.Verb == command.VerbVerify {
		s.deploy <- d
	} else {
		s.other <- d
	}
	return true
}

func origin(msg jetstream.Msg) order.Origin {
	get := func(name string) string {
		if values := msg.Headers()[name]; len(values) > 0 {
			return values[0]
		}
		return ""
	}
	return order.Origin{CauseID: get("ce-id"), CorrelationID: get("ce-correlationid"), TraceParent: get("traceparent")}
}

// keepAlive tells the leaf that the order is being worked on, or waits its turn.
func (d delivery) keepAlive(interval time.Duration) {
	tick := time.NewTicker(max(interval, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-d.done:
			return
		case <-tick.C:
			// While the leaf is away this fails, and the order comes again.
			_ = d.msg.InProgress()
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
