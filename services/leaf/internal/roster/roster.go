// Package roster makes sure that each agent of a site has its durable consumer.
//
// The leaf makes the durables, with a filter that is fixed; an agent has no right to
// make or change one, because a consumer with another filter would read what is meant
// for others.
package roster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
)

// Roster is safe for concurrent use.
type Roster struct {
	js  jetstream.JetStream
	max int

	mu sync.Mutex // held while a durable is made, so that max holds
}

// New takes the JetStream of the leaf's own server and how many agents may be served:
// the time that a server takes to stop grows with its durables.
func New(js jetstream.JetStream, maxAgents int) *Roster {
	return &Roster{js: js, max: maxAgents}
}

// Ensure makes the durable of an agent if it has none. One that exists is left as it
// is, with what it has delivered and acknowledged.
func (r *Roster) Ensure(ctx context.Context, agentID string) error {
	spec := stream.Agent(agentID)
	_, err := r.js.Consumer(ctx, spec.Stream, spec.Config.Durable)
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
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
