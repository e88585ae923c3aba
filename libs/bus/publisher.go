package bus

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/fault"
)

// Publisher makes messages of one stream durable, those of many callers in one write. While a batch is on its way, the
// messages that arrive are gathered for the next; a message that comes alone goes at once. It is safe for concurrent
// use, needs no closing, and has no goroutine while there is nothing to publish.
type Publisher struct {
	conn   *Conn
	stream string

	mu      sync.Mutex
	waiting []*publication // guarded by mu
	busy    bool           // guarded by mu: a goroutine is publishing and will look at waiting again
}

type publication struct {
	msg  *nats.Msg
	done chan error // has room for one
}

// NewPublisher returns a publisher to a stream, which must allow atomic batches.
func (c *Conn) NewPublisher(stream string) *Publisher { return &Publisher{conn: c, stream: stream} }

// Publish returns when m is stored. A message whose id the stream knows counts as stored. An error with code
// Unavailable, and the end of ctx, leave open whether m was stored; publishing it again with the same id is safe.
func (p *Publisher) Publish(ctx context.Context, m Message) error {
	msg, err := m.Encode()
	if err != nil {
		return err
	}
	if limit := p.conn.NC.MaxPayload(); limit > 0 && int64(msg.Size()) > limit {
		return fault.New(fault.TooLarge, "message of %d bytes is larger than the bus carries", len(m.Body))
	}
	if err := ctx.Err(); err != nil {
		return fault.Wrap(err, fault.Unavailable, "message was not published")
	}
	w := &publication{msg: msg, done: make(chan error, 1)}
	p.mu.Lock()
	p.waiting = append(p.waiting, w)
	start := !p.busy
	p.busy = true
	p.mu.Unlock()
	if start {
		// A batch belongs to many callers, so none of their contexts ends it.
		go p.run(context.WithoutCancel(ctx))
	}
	select {
	case err := <-w.done:
		if err != nil {
			return fmt.Errorf("publish %s to %s: %w", m.ID, p.stream, err)
		}
		return nil
	case <-ctx.Done():
		return fault.Wrap(ctx.Err(), fault.Unavailable, "message %s was not acknowledged in time", m.ID)
	}
}

// run publishes until nothing waits.
func (p *Publisher) run(ctx context.Context) {
	for {
		// Callers that the last write has released may have more; let them join the next, whose cost hardly depends on
		// its size.
		runtime.Gosched()
		p.mu.Lock()
		n := min(len(p.waiting), MaxBatch)
		if n == 0 {
			p.waiting, p.busy = nil, false
			p.mu.Unlock()
			return
		}
		batch := p.waiting[:n:n]
		p.waiting = p.waiting[n:]
		p.mu.Unlock()

		msgs := make([]*nats.Msg, n)
		for i, w := range batch {
			msgs[i] = w.msg
		}
		attempt, cancel := withTimeout(ctx)
		errs := publishDurably(attempt, p.conn.JS, msgs)
		cancel()
		p.conn.metrics.published.WithLabelValues(p.stream).Observe(float64(n))
		for i, w := range batch {
			if errs != nil {
				w.done <- errs[i]
			} else {
				w.done <- nil
			}
		}
	}
}
