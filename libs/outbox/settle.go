package outbox

import (
	"context"
	"slices"
	"time"
)

// settling is rows that a server has acknowledged, in the order of which.
type settling struct {
	ids    []int64
	server string
	at     time.Time
}

// settle takes rows out of the queue that are on the disk of the bus by now, and publishes those again that it may have
// lost: what a server acknowledged is on its disk when it has run on for Settle.
func (r *Relay) settle(ctx context.Context) error {
	server, now := r.server(), time.Now()
	if now.Sub(r.settled) < r.Settle/4 {
		return nil // more at once costs less
	}
	r.settled = now
	before := now.Add(-r.Settle)
	due := len(r.settling)
	for i, s := range r.settling {
		if s.at.After(before) {
			due = i
			break
		}
	}
	if due == 0 || server == "" {
		return nil
	}
	var safe, lost []int64
	for _, s := range r.settling[:due] {
		if s.server == server {
			safe = append(safe, s.ids...)
		} else {
			lost = append(lost, s.ids...)
		}
	}
	if len(safe) > 0 {
		if err := r.note(ctx, settledSQL, safe); err != nil {
			return err
		}
	}
	if len(lost) > 0 {
		r.Log.Info("the bus was restarted, or is another server: publishing again what it acknowledged last", "messages", len(lost))
		if err := r.release(ctx, lost); err != nil {
			return err
		}
		r.Wake()
	}
	r.settling = slices.Delete(r.settling, 0, due)
	return nil
}

// server names the server that the bus is reached through, and is empty while it is not reached.
func (r *Relay) server() string {
	if r.Server == nil {
		return "bus"
	}
	return r.Server()
}
