// Package relay carries messages between the hub and a site, in both directions.
//
//	AGENT_CMD  certctl.agent.cmd.<site>.<agent>.<verb>.<job>  ->  SITE_CMD  site.cmd.<agent>.<verb>.<job>
//	AGENT_EVT  certctl.agent.evt.<site>.<agent>.<kind>.<job>  <-  SITE_EVT  site.evt.<agent>.<kind>.<job>
//
// A message is acknowledged where it came from only after the other side has
// acknowledged that it is stored, under the same id. So nothing is lost however the
// leaf, the hub or the link ends; what is carried twice, the stream's window of
// duplicates and, beyond it, the receiver's inbox drop.
//
// The order of each agent's orders is kept: they are stored in atomic batches, and
// whatever was under way when the link or the leaf ended is carried before anything
// newer. So are reports, unless the hub refuses one of several for a while. Orders for the leaf itself (agent token "site") are obeyed, not relayed.
package relay

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/leaf/internal/link"
	"github.com/certctl/certctl/services/leaf/internal/metric"
)

const (
	// batchSize bounds what is carried at once, and so what is repeated when that fails.
	batchSize = 256
	// callTimeout bounds one call over the link, localTimeout one to the leaf's own
	// server; the latter is well below the hub's wait for an acknowledgement.
	callTimeout  = 10 * time.Second
	localTimeout = 3 * time.Second
)

// backoff is between attempts that failed while the link is up.
var backoff = retry.Policy{Base: 100 * time.Millisecond, Cap: 5 * time.Second, Jitter: 0.3}

// Relay carries the messages of one site. Its fields are set before Run.
type Relay struct {
	Site string
	// Local and Hub are the JetStreams of the leaf and, over the link, of the hub.
	Local, Hub jetstream.JetStream
	Link       *link.Link
	// Expect is called for the agent of each order before the order is stored.
	Expect func(ctx context.Context, agentID string)
	// ApplyAccount takes an account JWT that the hub sent.
	ApplyAccount func(token string) error
	Metrics      *metric.Leaf
	Log          *slog.Logger

	// arrived is the last delivery of the site's durable that arrived without a gap,
	// arrivedAt when one did. Both are of the commands loop.
	arrived   uint64
	arrivedAt time.Time
}

// Run carries messages until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.whileLinked(ctx, "commands", r.commands) })
	g.Go(func() error { return r.whileLinked(ctx, "reports", r.reports) })
	return g.Wait()
}

// whileLinked does the work of one direction for each life of the link.
func (r *Relay) whileLinked(ctx context.Context, direction string, work func(ctx, up context.Context) error) error {
	failures := 0
	for ctx.Err() == nil {
		up, err := r.Link.Up(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		began := time.Now()
		err = work(ctx, up)
		if ctx.Err() != nil || up.Err() != nil {
			failures = 0
			continue
		}
		if time.Since(began) > backoff.Cap {
			failures = 0
		}
		failures++
		r.Metrics.Retries.WithLabelValues(direction).Inc()
		r.Log.Warn("relay", "direction", direction, "error", err)
		pause(up, backoff.Delay(failures, nil))
	}
	return nil
}

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

// gather adds to the first message those that wait already.
func gather(first jetstream.Msg, from <-chan jetstream.Msg) []jetstream.Msg {
	batch := []jetstream.Msg{first}
	for len(batch) < batchSize {
		select {
		case m, ok := <-from:
			if !ok {
				return batch
			}
			batch = append(batch, m)
		default:
			return batch
		}
	}
	return batch
}

// refuse ends a message that no retry could carry over.
func (r *Relay) refuse(m jetstream.Msg, direction, reason string) {
	r.Metrics.Dropped.WithLabelValues(direction).Inc()
	r.Log.Error("relay: message cannot be carried over", "direction", direction, "subject", m.Subject(), "reason", reason)
	if err := m.TermWithReason(reason); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		r.Log.Warn("relay: message not ended", "subject", m.Subject(), "error", err)
	}
}

func (r *Relay) acknowledge(msgs []jetstream.Msg) {
	for _, m := range msgs {
		// A lost acknowledgement means a repeat, which the stream knows by its id.
		if err := m.Ack(); err != nil {
			r.Log.Debug("relay: acknowledgement lost", "subject", m.Subject(), "error", err)
		}
	}
}

// ownSubject takes a hub-side subject apart and makes sure that it is of this site.
func (r *Relay) ownSubject(s string) (subject.Agent, bool) {
	a, ok := subject.ParseAgent(s)
	return a, ok && a.Site == r.Site
}
