package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
)

const (
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	// deadPull is for how long a server heeds a pull whose sender is gone.
	deadPull     = 2 * time.Second
	expiryMargin = 200 * time.Millisecond
)

// errGap says that the hub sent orders that did not arrive.
var errGap = errors.New("orders were lost on the way and will be sent again")

// commands brings orders from the hub to the site, for as long as up lives.
func (r *Relay) commands(ctx, up context.Context) error {
	consumer, err := r.bind(ctx, up)
	if err != nil {
		return err
	}
	// The channel holds all that one pull may bring, so the handler never waits.
	arrived := make(chan jetstream.Msg, 4*batchSize)
	failed := make(chan error, 1)
	pull, err := consumer.Consume(func(m jetstream.Msg) { arrived <- m },
		jetstream.PullMaxMessages(batchSize), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			select {
			case failed <- err:
			default:
			}
		}))
	if err != nil {
		return fmt.Errorf("pull orders: %w", err)
	}
	err = r.bring(ctx, up, arrived, failed)
	// What has arrived is carried over even though the link is gone, since it need not
	// be sent again then.
	pull.Drain()
	for {
		select {
		case m := <-arrived:
			r.take(ctx, gather(m, arrived))
		case <-pull.Closed():
			if len(arrived) == 0 {
				return err
			}
		case <-ctx.Done():
			pull.Stop()
			return err
		}
	}
}

func (r *Relay) bring(ctx, up context.Context, arrived <-chan jetstream.Msg, failed <-chan error) error {
	for {
		select {
		case <-up.Done():
			return context.Cause(up)
		case err := <-failed:
			return fmt.Errorf("pull orders: %w", err)
		case m := <-arrived:
			if !r.take(ctx, gather(m, arrived)) {
				return errGap
			}
		}
	}
}

// bind finds the site's durable and makes sure that nothing is on its way.
//
// When a link ends, the hub serves a pull that it got shortly before for a while
// longer: what it sends then arrives nowhere, and is sent again in any order. So it is
// let run out. Then nothing is lost if the last delivery that the hub knows of is the
// last that arrived, and what is unacknowledged is known here.
func (r *Relay) bind(ctx, up context.Context) (jetstream.Consumer, error) {
	pause(up, deadPull-time.Since(r.arrivedAt))
	consumer, err := r.durable(up)
	if err != nil {
		return nil, err
	}
	info := consumer.CachedInfo()
	if info.NumAckPending > 0 && info.Delivered.Consumer != r.arrived {
		return r.recoverLost(ctx, up, info)
	}
	r.arrived = info.Delivered.Consumer
	return consumer, nil
}

// recoverLost takes the orders that the hub has sent and that the link or the leaf
// lost. The hub sends them again when it has waited for the acknowledgement, before
// anything newer but in no certain order; to pull sooner would let newer orders
// overtake.
func (r *Relay) recoverLost(ctx, up context.Context, info *jetstream.ConsumerInfo) (jetstream.Consumer, error) {
	r.Log.Info("relay: orders were lost on the way and will be sent again", "orders", info.NumAckPending, "within", info.Config.AckWait)
	pause(up, info.Config.AckWait+expiryMargin)
	consumer, err := r.durable(up)
	if err != nil {
		return nil, err
	}
	info = consumer.CachedInfo()
	r.arrived = info.Delivered.Consumer
	if info.NumAckPending == 0 {
		return consumer, nil
	}
	batch, err := consumer.Fetch(info.NumAckPending, jetstream.FetchMaxWait(callTimeout))
	if err != nil {
		return nil, fmt.Errorf("pull lost orders: %w", err)
	}
	type order struct {
		jetstream.Msg
		at jetstream.SequencePair
	}
	var lost []order
	for m := range batch.Messages() {
		if meta, err := m.Metadata(); err == nil {
			lost = append(lost, order{m, meta.Sequence})
			r.arrived = max(r.arrived, meta.Sequence.Consumer)
		}
	}
	slices.SortFunc(lost, func(a, b order) int { return cmp.Compare(a.at.Stream, b.at.Stream) })
	for chunk := range slices.Chunk(lost, batchSize) {
		msgs := make([]jetstream.Msg, len(chunk))
		for i, o := range chunk {
			msgs[i] = o.Msg
		}
		r.store(ctx, msgs)
	}
	return consumer, batch.Error()
}

func (r *Relay) durable(up context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(up, callTimeout)
	defer cancel()
	spec := stream.Site(r.Site)
	consumer, err := r.Hub.Consumer(ctx, spec.Stream, spec.Config.Durable)
	if err != nil {
		return nil, fmt.Errorf("bind the site's durable at the hub: %w", err)
	}
	return consumer, nil
}

// take stores orders up to the first one before which another is missing, and tells
// whether none was. The rest is left to be sent again, in order.
func (r *Relay) take(ctx context.Context, batch []jetstream.Msg) (whole bool) {
	n := 0
	for _, m := range batch {
		meta, err := m.Metadata()
		if err != nil || meta.Sequence.Consumer != r.arrived+1 {
			break
		}
		r.arrived++
		n++
	}
	r.arrivedAt = time.Now()
	r.store(ctx, batch[:n])
	return n == len(batch)
}

// store stores orders at the site and acknowledges them. It tries until it
// succeeds or ctx ends: the hub is told that the work goes on.
func (r *Relay) store(ctx context.Context, batch []jetstream.Msg) {
	var orders []jetstream.Msg
	var out []*nats.Msg
	for _, m := range batch {
		to, ok := r.ownSubject(m.Subject())
		switch {
		case !ok:
			r.refuse(m, "commands", "not a subject of this site")
		case to.Agent == subject.AgentSite:
			r.obey(m, to)
		default:
			r.Expect(ctx, to.Agent)
			orders = append(orders, m)
			out = append(out, carried(m, subject.SiteCommand(to.Agent, to.Verb, to.Job), headerTTL))
		}
	}
	for failures := 0; len(out) > 0; {
		if err := r.publishLocally(ctx, out); err == nil {
			r.acknowledge(orders)
			r.Metrics.Commands.Add(float64(len(orders)))
			return
		} else if ctx.Err() != nil {
			return
		} else {
			r.Log.Error("relay: orders cannot be stored at the site", "orders", len(orders), "error", err)
		}
		failures++
		r.Metrics.Retries.WithLabelValues("commands").Inc()
		for _, m := range orders {
			_ = m.InProgress() // if it is lost the order comes again, and is known
		}
		pause(ctx, backoff.Delay(failures, nil))
	}
}

func (r *Relay) publishLocally(ctx context.Context, out []*nats.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	return give(ctx, r.Local, out)
}

// obey does what the hub wants of the leaf itself.
func (r *Relay) obey(m jetstream.Msg, to subject.Agent) {
	if to.Verb != command.VerbAccount {
		r.refuse(m, "commands", "this leaf knows no such order")
		return
	}
	var body command.RevokedUsers
	err := json.Unmarshal(m.Data(), &body)
	if err == nil {
		err = r.ApplyAccount(body.AccountJWT)
	}
	switch {
	case err == nil:
		r.Metrics.Accounts.WithLabelValues("applied").Inc()
	case errors.Is(err, natsauth.ErrStale):
		r.Metrics.Accounts.WithLabelValues("stale").Inc()
	default:
		r.Metrics.Accounts.WithLabelValues("refused").Inc()
		r.refuse(m, "commands", "account JWT: "+err.Error())
		return
	}
	r.acknowledge([]jetstream.Msg{m})
}
