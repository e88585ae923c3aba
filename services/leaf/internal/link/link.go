// Package link watches the connection between a leaf and the hub.
//
// Whoever works over the link asks [Link.Up] for a context that lives as long as the
// present connection does; a new connection, even one that came at once, ends it, for
// what was under way on the old one (a pull, a reply awaited) is lost with it.
//
// A connection may be up and yet carry nothing. So the hub is asked something at
// intervals, and after two silences the connection is cut; the server then makes a
// new one. An answer of any kind, also a refusal, is a sign of life.
package link

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// watchInterval bounds how long a new connection goes unnoticed.
	watchInterval = 100 * time.Millisecond
	// silences in a row cut the connection.
	silences = 2
)

// ErrChanged is why a context of [Link.Up] ended.
var ErrChanged = errors.New("the link to the hub changed")

// Server is the embedded server, as far as its connection to the hub goes.
type Server interface {
	// Link tells the id of the connection to the hub; ok is false without one.
	Link() (id uint64, ok bool)
	// CutLink closes the connection; the server makes a new one.
	CutLink()
}

// Link is the connection to the hub. Make it with New.
type Link struct {
	server Server
	probe  func(context.Context) error
	every  time.Duration
	log    *slog.Logger

	mu      sync.Mutex
	id      uint64                  // guarded by mu; 0 while there is none
	up      context.Context         // guarded by mu; nil while there is none
	end     context.CancelCauseFunc // guarded by mu
	changed chan struct{}           // guarded by mu; closed at each change
	since   time.Time               // guarded by mu
	cuts    int                     // guarded by mu
}

// New watches the connection of a server; probe asks the hub something every so
// often.
func New(server Server, probe func(context.Context) error, every time.Duration, log *slog.Logger) *Link {
	return &Link{
		server: server, probe: probe, every: every, log: log,
		changed: make(chan struct{}), since: time.Now(),
	}
}

// Run watches until ctx ends.
func (l *Link) Run(ctx context.Context) error {
	watch, probe := time.NewTicker(watchInterval), time.NewTicker(l.every)
	defer watch.Stop()
	defer probe.Stop()
	var probes sync.WaitGroup
	defer probes.Wait()
	defer l.set(ctx, 0) // which ends a probe that is under way
	answers := make(chan error, 1)
	silent, asking := 0, false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.C:
			id, ok := l.server.Link()
			if !ok {
				id = 0
			}
			if l.set(ctx, id) {
				silent = 0
			}
		case <-probe.C:
			if up := l.current(); up != nil && !asking {
				asking = true
				probes.Go(func() { answers <- l.ask(up) })
			}
		case err := <-answers:
			asking = false
			if silent = count(silent, err); silent >= silences {
				silent = 0
				l.cut()
			}
		}
	}
}

func (l *Link) ask(up context.Context) error {
	ctx, cancel := context.WithTimeout(up, l.every/2)
	defer cancel()
	err := l.probe(ctx)
	if up.Err() != nil {
		return nil // the connection has gone by itself
	}
	return err
}

func count(silent int, err error) int {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
		return silent + 1
	}
	return 0
}

func (l *Link) cut() {
	l.mu.Lock()
	l.cuts++
	l.mu.Unlock()
	l.log.Warn("the hub is silent: the link is made anew")
	l.server.CutLink()
}

// set notes the connection that there is now and tells whether that is news.
func (l *Link) set(ctx context.Context, id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == l.id {
		return false
	}
	if l.end != nil {
		l.end(ErrChanged)
		l.up, l.end = nil, nil
	}
	l.id = id
	if id != 0 {
		l.up, l.end = context.WithCancelCause(ctx)
	}
	l.log.Info("link to the hub", "up", id != 0, "after", time.Since(l.since).Round(time.Millisecond))
	l.since = time.Now()
	close(l.changed)
	l.changed = make(chan struct{})
	return true
}

func (l *Link) current() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// Up waits for a connection and returns a context that ends with it, and with the
// context of Run. The error is ctx's.
func (l *Link) Up(ctx context.Context) (context.Context, error) {
	for {
		l.mu.Lock()
		up, changed := l.up, l.changed
		l.mu.Unlock()
		if up != nil && up.Err() == nil {
			return up, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// IsUp tells whether there is a connection now.
func (l *Link) IsUp() bool { return l.current() != nil }

// Cuts is how often a silent connection was cut.
func (l *Link) Cuts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts
}
