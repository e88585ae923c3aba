package link

import (
	"context"
	"sync"
)

// presence turns the comings and goings of a connection into contexts: each time it
// is up has a context that ends when it goes down.
type presence struct {
	mu      sync.Mutex
	base    context.Context
	current context.Context    // nil while down; guarded by mu
	cancel  context.CancelFunc // of current
	changed chan struct{}      // closed when it comes up; guarded by mu
}

func newPresence(base context.Context) *presence {
	return &presence{base: base, changed: make(chan struct{})}
}

func (p *presence) up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		p.cancel()
	}
	p.current, p.cancel = context.WithCancel(p.base)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *presence) down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		p.cancel()
		p.current = nil
	}
}

// wait returns the context of the connection, as soon as it is up.
func (p *presence) wait(ctx context.Context) (context.Context, error) {
	for {
		p.mu.Lock()
		current, changed := p.current, p.changed
		p.mu.Unlock()
		if current != nil {
			return current, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// risen is closed when the connection comes up the next time.
func (p *presence) risen() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}
