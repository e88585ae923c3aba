package ratelimit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/obs"
)

const (
	// tellEvery is how far replicas are behind each other.
	tellEvery = 150 * time.Millisecond
	// maxCallers of one message, which keeps it far below what the bus takes.
	maxCallers = 2000
)

// matter is what replicas speak of it under.
var matter = subject.Replicas("gateway", "consumption")

// consumption is what one replica tells the others. It is lost if nobody listens: a
// token lasts some milliseconds.
type consumption struct {
	From      string         `json:"from"`
	Addresses map[string]int `json:"addresses,omitempty"`
	Keys      map[string]int `json:"keys,omitempty"`
}

// Share tells other replicas what this one lets through, and hears it from them, until
// ctx ends.
func (l *Limiter) Share(ctx context.Context, nc *nats.Conn, c clock.Clock, log *slog.Logger) error {
	me := id.New("gateway-")
	heard, err := nc.Subscribe(matter, func(m *nats.Msg) {
		if err := l.hear(me, m.Data, c.Now()); err != nil {
			log.Warn("did not understand what another replica let through", obs.KeyError, err)
		}
	})
	if err != nil {
		return fmt.Errorf("listen to other replicas: %w", err)
	}
	defer func() { _ = heard.Unsubscribe() }()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.tell(c.Now(), me, func(b []byte) {
				// A connection that is down would keep it until it is worth nothing.
				if nc.IsConnected() {
					_ = nc.Publish(matter, b)
				}
			})
		case <-ctx.Done():
			return nil
		}
	}
}

// tell hands over what was let through since the last time, in messages.
func (l *Limiter) tell(now time.Time, me string, publish func([]byte)) {
	var c *consumption
	send := func() {
		if c == nil {
			return
		}
		if b, err := json.Marshal(c); err == nil {
			publish(b)
		}
		c = nil
	}
	room := func() {
		if c != nil && len(c.Addresses)+len(c.Keys) >= maxCallers {
			send()
		}
		if c == nil {
			c = &consumption{From: me, Addresses: map[string]int{}, Keys: map[string]int{}}
		}
	}
	l.addresses.drain(now, func(a netip.Addr, n int) {
		if a.IsValid() {
			room()
			c.Addresses[a.String()] = n
		}
	})
	l.keys.drain(now, func(key string, n int) {
		room()
		c.Keys[key] = n
	})
	send()
}

func (l *Limiter) hear(me string, message []byte, now time.Time) error {
	var c consumption
	if err := json.Unmarshal(message, &c); err != nil {
		return err
	}
	if c.From == me {
		return nil
	}
	for text, n := range c.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		l.addresses.charge(a, n, now)
	}
	for key, n := range c.Keys {
		l.keys.charge(key, n, now)
	}
	return nil
}
