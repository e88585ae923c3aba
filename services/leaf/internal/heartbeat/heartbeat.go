// Package heartbeat gathers the heartbeats of a site's agents and sends them to the
// hub in one message about once a second, so that ten thousand agents cost the hub as
// much as their leaves, not as they themselves.
//
// While the hub is away the newest word of each agent is kept in memory, and goes out
// when the hub is back. Nothing more is promised: a heartbeat is about now.
package heartbeat

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/certctl/certctl/contracts/command"
)

const (
	interval    = time.Second
	sendTimeout = 5 * time.Second
)

// Gatherer is safe for concurrent use. Make it with New.
type Gatherer struct {
	send func(context.Context, command.Heartbeats) error
	log  *slog.Logger

	mu      sync.Mutex
	waiting map[string]command.Heartbeat // guarded by mu, by agent
}

// New gathers for send.
func New(send func(context.Context, command.Heartbeats) error, log *slog.Logger) *Gatherer {
	return &Gatherer{send: send, log: log, waiting: map[string]command.Heartbeat{}}
}

// Add takes a heartbeat. The agent and the time are the leaf's word, not the agent's.
func (g *Gatherer) Add(agentID string, beat command.Heartbeat, at time.Time) {
	beat.AgentID, beat.At = agentID, at
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting[agentID] = merge(g.waiting[agentID], beat)
}

// Run sends what was gathered until ctx ends.
func (g *Gatherer) Run(ctx context.Context) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			g.flush(ctx)
		}
	}
}

func (g *Gatherer) flush(ctx context.Context) {
	g.mu.Lock()
	taken := g.waiting
	g.waiting = map[string]command.Heartbeat{}
	g.mu.Unlock()
	if len(taken) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	beats := slices.SortedFunc(maps.Values(taken), func(a, b command.Heartbeat) int { return cmp.Compare(a.AgentID, b.AgentID) })
	if err := g.send(ctx, command.Heartbeats{Heartbeats: beats}); err != nil {
		g.log.Debug("heartbeats wait for the hub", "agents", len(beats), "error", err)
		g.putBack(taken)
	}
}

func (g *Gatherer) putBack(taken map[string]command.Heartbeat) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for agent, older := range taken {
		newer, ok := g.waiting[agent]
		if !ok {
			newer = older
		}
		g.waiting[agent] = merge(older, newer)
	}
}

// merge lets the newer heartbeat win, field by field: an empty one means no change.
func merge(older, newer command.Heartbeat) command.Heartbeat {
	return command.Heartbeat{
		AgentID:      newer.AgentID,
		Name:         cmp.Or(newer.Name, older.Name),
		Hostname:     cmp.Or(newer.Hostname, older.Hostname),
		OS:           cmp.Or(newer.OS, older.OS),
		Architecture: cmp.Or(newer.Architecture, older.Architecture),
		IPAddress:    cmp.Or(newer.IPAddress, older.IPAddress),
		Version:      cmp.Or(newer.Version, older.Version),
		At:           newer.At,
	}
}
