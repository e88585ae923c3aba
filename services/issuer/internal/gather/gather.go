// Package gather turns many small writes that come at once into a few large ones (group commit).
//
// While one batch is under way, the calls that arrive wait together and are the next batch; a call that comes alone goes
// at once. Only when many come at a time does a batch wait a moment for those behind. Each call gets its own answer: when a batch fails as a whole, its calls
// are made one by one, so that what is wrong with one is not held against the others.
package gather

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

// Group gathers calls. Do makes a batch of them and returns the error of each, or one error for all of them. The keys of
// a batch are distinct: of two calls with the same key the later goes with a later batch. Set the fields before the
// first call. It is safe for concurrent use and has no goroutine while there is nothing to do.
type Group[T any] struct {
	// Key tells calls apart that cannot go together.
	Key func(T) string
	Do  func(ctx context.Context, batch []T) ([]error, error)
	// Max is the most calls in a batch.
	Max int
	// Linger is how long a batch that follows one of several calls waits for more of them. Zero is not at all.
	Linger time.Duration
	// Timeout bounds a batch. It belongs to many callers, so none of their contexts ends it.
	Timeout time.Duration

	mu      sync.Mutex
	waiting []*call[T] // guarded by mu
	busy    bool       // guarded by mu: a goroutine is at work and will look at waiting again
}

type call[T any] struct {
	value T
	done  chan error // has room for one
}

// Call returns when the batch with value has been made. When ctx ends first, it is open whether it will be.
func (g *Group[T]) Call(ctx context.Context, value T) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(err, fault.Unavailable, "the request was given up before it was begun")
	}
	c := &call[T]{value: value, done: make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	start := !g.busy
	g.busy = true
	g.mu.Unlock()
	if start {
		go g.run(context.WithoutCancel(ctx))
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return fault.Wrap(ctx.Err(), fault.Unavailable, "the request was not stored in time; it may still be")
	}
}

// lingerFrom is how many calls in a batch are several: fewer callers would rather be answered.
const lingerFrom = 4

func (g *Group[T]) run(ctx context.Context) {
	for {
		batch := g.take()
		if batch == nil {
			return
		}
		g.make(ctx, batch)
		if len(batch) >= lingerFrom && len(batch) < g.Max && g.Linger > 0 {
			<-time.After(g.Linger)
		}
	}
}

// take returns the next batch, nil if nothing waits.
func (g *Group[T]) take() []*call[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.waiting, g.busy = nil, false
		return nil
	}
	keys := make(map[string]bool, min(len(g.waiting), g.Max))
	var batch, later []*call[T]
	for _, c := range g.waiting {
		if k := g.Key(c.value); len(batch) < g.Max && !keys[k] {
			keys[k] = true
			batch = append(batch, c)
			continue
		}
		later = append(later, c)
	}
	g.waiting = later
	return batch
}

func (g *Group[T]) make(ctx context.Context, batch []*call[T]) {
	errs, err := g.attempt(ctx, batch)
	if err != nil && len(batch) > 1 && fault.CodeOf(err) != fault.Unavailable {
		for _, c := range batch {
			g.make(ctx, []*call[T]{c})
		}
		return
	}
	for i, c := range batch {
		switch {
		case err != nil:
			c.done <- err
		case errs != nil:
			c.done <- errs[i]
		default:
			c.done <- nil
		}
	}
}

func (g *Group[T]) attempt(ctx context.Context, batch []*call[T]) ([]error, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	values := make([]T, len(batch))
	for i, c := range batch {
		values[i] = c.value
	}
	return g.Do(ctx, values)
}
