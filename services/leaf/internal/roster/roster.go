// Package roster makes sure that each agent of a site has its durable consumer.
//
// The leaf makes the durables, with a filter that is fixed; an agent has no right to
// make or change one, because a consumer with another filter would read what is meant
// for others.
//
// The durables are in memory, and made anew after a restart. An order never waits
// without the durable of its agent: the stream forgets an order that is acknowledged
// when no other durable wants it, whoever acknowledges it.
package roster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
)

// Roster is safe for concurrent use.
type Roster struct {
	js  jetstream.JetStream
	max int
	log *slog.Logger

	making sync.Mutex // held while a durable is made, so that max holds

	mu   sync.Mutex
	seen map[string]time.Time // when the durable of an agent was last known to be there; guarded by mu
}

// certain is for how long a durable that was there is taken to be there still, where
// that is asked for each order. It is far below the time after which an idle one ends.
const certain = time.Hour

// New takes the JetStream of the leaf's own server and how many agents may be served:
// the time that a server takes to stop grows with its durables.
func New(js jetstream.JetStream, maxAgents int, log *slog.Logger) *Roster {
	return &Roster{js: js, max: maxAgents, log: log, seen: map[string]time.Time{}}
}

// Restore makes the durables of all agents for whom orders wait. It is called before
// agents are served.
func (r *Roster) Restore(ctx context.Context) error {
	commands, err := r.js.Stream(ctx, subject.StreamSiteCommands)
	if err != nil {
		return fmt.Errorf("restore durables: %w", err)
	}
	info, err := commands.Info(ctx, jetstream.WithSubjectFilter(subject.AllSiteCommands))
	if err != nil {
		return fmt.Errorf("restore durables: %w", err)
	}
	for s := range info.State.Subjects {
		if to, ok := subject.ParseSite(s); ok {
			r.Expect(ctx, to.Agent)
		}
	}
	return nil
}

// Expect is Ensure for an agent that has not asked. That its durable cannot be made is
// logged: its hello will tell it why.
func (r *Roster) Expect(ctx context.Context, agentID string) {
	r.mu.Lock()
	fresh := time.Since(r.seen[agentID]) < certain
	r.mu.Unlock()
	if fresh {
		return
	}
	if err := r.Ensure(ctx, agentID); err != nil {
		r.log.Warn("durable of an agent", "agent_id", agentID, "error", err)
	}
}

// Ensure makes the durable of an agent if it has none. One that exists is left as it
// is, with what it has delivered and acknowledged.
func (r *Roster) Ensure(ctx context.Context, agentID string) error {
	err := r.ensure(ctx, agentID)
	if err == nil {
		r.mu.Lock()
		r.seen[agentID] = time.Now()
		r.mu.Unlock()
	}
	return err
}

func (r *Roster) ensure(ctx context.Context, agentID string) error {
	spec := stream.Agent(agentID)
	_, err := r.js.Consumer(ctx, spec.Stream, spec.Config.Durable)
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	r.making.Lock()
	defer r.making.Unlock()
	commands, err := r.js.Stream(ctx, subject.StreamSiteCommands)
	if err != nil {
		return fmt.Errorf("count agents: %w", err)
	}
	if n := commands.CachedInfo().State.Consumers; n >= r.max {
		return fault.New(fault.Precondition, "this leaf serves %d agents already, which is its limit", n)
	}
	_, err = r.js.CreateConsumer(ctx, spec.Stream, spec.Config)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerExists) {
		return fmt.Errorf("make durable of %s: %w", agentID, err)
	}
	return nil
}
