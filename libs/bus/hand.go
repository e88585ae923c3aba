package bus

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// hand holds the messages that the server has delivered and waits to hear about: those that are being handled, and
// those that have arrived meanwhile.
type hand struct {
	arrived chan struct{} // holds one signal: waiting is not empty
	taken   chan struct{} // holds one signal: waiting has become empty

	mu      sync.Mutex
	waiting []jetstream.Msg // guarded by mu
	working []jetstream.Msg // guarded by mu
}

func newHand() *hand {
	return &hand{arrived: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (h *hand) add(m jetstream.Msg) {
	h.mu.Lock()
	h.waiting = append(h.waiting, m)
	h.mu.Unlock()
	signal(h.arrived)
}

// take returns up to n messages, waiting for the first. It returns nil when ctx has ended.
func (h *hand) take(ctx context.Context, n int) []jetstream.Msg {
	for ctx.Err() == nil {
		h.mu.Lock()
		if len(h.waiting) > 0 {
			n = min(n, len(h.waiting))
			batch := h.waiting[:n:n]
			h.waiting, h.working = h.waiting[n:], batch
			if len(h.waiting) == 0 {
				signal(h.taken)
			}
			h.mu.Unlock()
			return batch
		}
		h.mu.Unlock()
		select {
		case <-h.arrived:
		case <-ctx.Done():
		}
	}
	return nil
}

// done forgets the messages that take returned last.
func (h *hand) done() {
	h.mu.Lock()
	h.working = nil
	h.mu.Unlock()
}

// awaitTaken returns when nothing waits, or ctx has ended.
func (h *hand) awaitTaken(ctx context.Context) {
	for ctx.Err() == nil {
		h.mu.Lock()
		empty := len(h.waiting) == 0
		h.mu.Unlock()
		if empty {
			return
		}
		select {
		case <-h.taken:
		case <-ctx.Done():
		}
	}
}

// touch tells the server that all messages in hand are being worked on. Those that are settled are left alone by the
// client library, and a message whose word is lost is delivered again, which the inbox bears.
func (h *hand) touch() {
	h.mu.Lock()
	msgs := append(append(make([]jetstream.Msg, 0, len(h.waiting)+len(h.working)), h.working...), h.waiting...)
	h.mu.Unlock()
	for _, m := range msgs {
		_ = m.InProgress()
	}
}

// giveBack asks the server to deliver what still waits to someone else, at once.
func (h *hand) giveBack() {
	h.mu.Lock()
	msgs := h.waiting
	h.waiting = nil
	h.mu.Unlock()
	for _, m := range msgs {
		_ = m.Nak()
	}
}
