// Package deployment brings certificates to the hosts that serve them.
//
// It owns sites, agents, targets and the jobs that install a version on a target. It
// is the one service with a foot in both accounts: events of CORE become signed orders
// to agents in EDGE, and the agents' signed reports become events. Only the subject of
// a message, which the servers check, says which site and agent it comes from.
//
// A job's row is the truth. An order that is lost is sent again; a report that comes
// twice, late or out of order changes nothing that has ended.
package deployment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/service"
)

const (
	name = "deployment"
	// consumed is how many messages share a transaction.
	consumed     = 256
	closeTimeout = 10 * time.Second
)

// Run serves until ctx ends, then finishes what is in hand. If cfg.Edge is empty it is
// made of the files that cfg names.
func Run(ctx context.Context, cfg Config, deps service.Deps) (err error) {
	if deps.Sealer == nil {
		return errors.New("deployment needs a sealing key: it keeps the key that signs orders")
	}
	if cfg.Edge.Bus == nil {
		if cfg.Edge, err = cfg.openEdge(deps); err != nil {
			return err
		}
		defer func() {
			closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			err = errors.Join(err, cfg.Edge.Bus.Close(closing))
		}()
	}
	if err := cfg.Edge.validate(); err != nil {
		return err
	}
	p, err := build(ctx, cfg, deps)
	if err != nil {
		return fmt.Errorf("start deployment: %w", err)
	}
	return p.run(ctx)
}

// run starts all parts. The relays outlive the others, which still fill the outbox
// while they finish.
func (p *parts) run(ctx context.Context) error {
	relaying, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var relays errgroup.Group
	for _, r := range p.relays {
		relays.Go(func() error { return r.Run(relaying) })
	}
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return p.consumeEvents(ctx) })
	work.Go(func() error { return p.consumeReports(ctx) })
	work.Go(func() error { return p.agents.Run(ctx) })
	work.Go(func() error {
		return natshttp.Serve(ctx, p.core.NC, natshttp.Options{
			Service: name, Operations: httpapi.OperationsOf(name), Log: p.log,
		}, p.answers.Handler())
	})
	work.Go(func() error { return p.asked.Serve(ctx, p.core.NC) })
	for _, s := range p.sweepers {
		work.Go(func() error { return s.Run(ctx) })
	}
	err := work.Wait()
	stop()
	return errors.Join(err, relays.Wait())
}

func (p *parts) consumeEvents(ctx context.Context) error {
	return p.core.Consume(ctx, bus.Spec{
		Stream: subject.StreamEvents, Durable: subject.ConsumerDeploymentEvents, Batch: consumed,
		DLQSubject: subject.DeadLetter(name, subject.ConsumerDeploymentEvents),
		Committed:  p.committed,
	}, p.desk.DB, p.desk.Events)
}

// consumeReports reads from EDGE; what it gives up on goes to the dead letters, which
// are in CORE.
func (p *parts) consumeReports(ctx context.Context) error {
	return p.edge.Consume(ctx, bus.Spec{
		// An agent says the same again under another id anyway: the order, which is held meanwhile, tells what is news.
		Stream: subject.StreamAgentReports, Durable: subject.ConsumerDeploymentReports, Batch: consumed, Idempotent: true,
		DLQSubject: subject.DeadLetter(name, subject.ConsumerDeploymentReports), DLQ: p.core.JS,
		Committed: p.heard,
	}, p.desk.DB, p.desk.Reports)
}
