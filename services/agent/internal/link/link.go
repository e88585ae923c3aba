// Package link is an agent's connection to its leaf, the only thing an agent ever
// talks to.
//
// It enrols the host ([Enrol]), says hello and lives ([Link.Run]): heartbeats, a fresh
// JWT each day, orders taken from the agent's own durable, reports delivered or kept
// on disk. A leaf that is away, for a second or for a week, changes nothing but the
// time: the link comes back by itself, and nothing that was to be reported is lost.
//
// The agent only asks and pulls; nobody connects to it.
package link

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/agent/internal/identity"
	"github.com/certctl/certctl/services/agent/internal/order"
	"github.com/certctl/certctl/services/agent/internal/spool"
)

const (
	// refreshAfter is the age at which a JWT is renewed. It lives a month, so a site may
	// be cut off for weeks.
	refreshAfter = 24 * time.Hour
	refreshCheck = time.Hour
)

// Handler carries out orders.
type Handler interface {
	// Do returns nil once the order's report cannot be lost.
	Do(ctx context.Context, o order.Order) error
}

// Link is an agent's connection. The exported fields are set before Run and not
// changed after.
type Link struct {
	Leaf     Address
	Identity *identity.Store
	Spool    *spool.Spool
	Handler  Handler
	// Describe tells what host this is, given the address that it reaches the leaf from.
	Describe func(local string) command.Heartbeat
	// Heartbeat is the time between two heartbeats.
	Heartbeat time.Duration
	Log       *slog.Logger

	nc       *nats.Conn
	js       jetstream.JetStream
	presence *presence
	spooled  chan struct{}
}

// Open begins to connect. Reports may be given to the link from then on.
func (l *Link) Open(ctx context.Context) error {
	l.presence = newPresence(ctx)
	l.spooled = make(chan struct{}, 1)
	var err error
	if l.nc, err = l.dial(); err != nil {
		return err
	}
	if l.js, err = jetstream.New(l.nc); err != nil {
		l.nc.Close()
		return fmt.Errorf("connect to the leaf: %w", err)
	}
	return nil
}

// Run takes orders until ctx ends and what was begun is finished, then closes the
// link.
func (l *Link) Run(ctx context.Context) {
	defer l.nc.Close()
	s := l.startLanes(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { l.flush(ctx) })
	tasks.Go(func() { l.beat(ctx) })
	tasks.Go(func() { l.refresh(ctx) })
	l.pull(ctx, s)
	s.stop()
	tasks.Wait()
	// What the last orders told is on its way still.
	if l.nc.IsConnected() {
		if err := l.nc.FlushTimeout(time.Second); err != nil {
			l.Log.DebugContext(ctx, "connection not flushed", "error", err)
		}
	}
}

// beat says that the agent lives: when it connects, and then at each interval.
func (l *Link) beat(ctx context.Context) {
	for ctx.Err() == nil {
		risen := l.presence.risen()
		if l.nc.IsConnected() {
			if err := l.heartbeat(); err != nil {
				l.Log.Debug("heartbeat not sent", "error", err)
			}
		}
		// A little less than the interval, never more: who counts the missed ones counts
		// in intervals. It also parts agents that were started together.
		tick := time.NewTimer(retry.Policy{Base: l.Heartbeat, Jitter: 0.05}.Delay(1, nil))
		select {
		case <-ctx.Done():
		case <-risen:
		case <-tick.C:
		}
		tick.Stop()
	}
}

func (l *Link) heartbeat() error {
	beat := l.Describe(l.nc.LocalAddr())
	beat.At = time.Now().UTC()
	body, err := json.Marshal(beat)
	if err != nil {
		return err
	}
	return l.nc.Publish(subject.SiteRequest(l.Identity.Current().AgentID, command.VerbHeartbeat), body)
}

// refresh renews the JWT when it is a day old. The one in use stays good until it
// expires, so a failure is no more than a reason to try again.
func (l *Link) refresh(ctx context.Context) {
	for ctx.Err() == nil {
		up, err := l.presence.wait(ctx)
		if err != nil {
			return
		}
		if issued, _, err := l.Identity.Current().Validity(); err != nil || time.Since(issued) >= refreshAfter {
			if err := l.renew(up); err != nil {
				l.Log.Warn("identity not renewed, trying again in an hour", "error", err)
			} else {
				l.Log.Info("identity renewed")
			}
		}
		pause(ctx, refreshCheck)
	}
}

func (l *Link) renew(ctx context.Context) error {
	agent := l.Identity.Current().AgentID
	reply, err := request[command.RefreshReply](ctx, l.nc, subject.SiteRequest(agent, command.VerbRefresh), struct{}{})
	if err != nil {
		return err
	}
	return l.Identity.Renew(reply.UserJWT)
}
