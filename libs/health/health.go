// Package health answers whether a process can do its work, from checks that really try.
//
// A Registry has two questions. Live: is the process worth keeping, or must it be restarted? Ready: can it serve now?
// Whatever a check needs from outside (a database, the bus) belongs to readiness, since a restart would not bring it
// back. Checks run side by side, each under a time limit. A report is kept for up to a second, so that probes from many
// sides cost no more than one. A check that hangs past its limit is reported as failing and not started again until it
// has returned.
package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/libs/obs"
)

const (
	checkTimeout = 2 * time.Second
	reportAge    = time.Second
	// Bad news ages faster, so that whoever waits for a start is not kept waiting by it.
	badReportAge = 50 * time.Millisecond
)

var errHanging = errors.New("the check has not returned")

// Check returns nil when what it looks at is well. It must be safe for concurrent use and honour its context.
type Check func(ctx context.Context) error

// Registry holds the checks of a process. Make it with New; it is safe for concurrent use.
type Registry struct {
	log     *slog.Logger
	timeout time.Duration
	live    group
	ready   group
}

// New returns a registry without checks, which is live and ready. It logs when a check starts or ceases to fail.
func New(log *slog.Logger) *Registry {
	r := &Registry{log: log, timeout: checkTimeout}
	r.live.ok, r.live.failing = "healthy", "unhealthy"
	r.ready.ok, r.ready.failing = "ready", "unavailable"
	return r
}

// Add adds a check of readiness. A check added under a name that exists takes the place of the older one.
func (r *Registry) Add(name string, check Check) { r.ready.add(name, check) }

// AddLive adds a check of liveness: one whose failure only a restart can end.
func (r *Registry) AddLive(name string, check Check) { r.live.add(name, check) }

// Check reports whether the process is ready.
func (r *Registry) Check(ctx context.Context) Report { return r.ready.report(ctx, r) }

// Live reports whether the process is worth keeping.
func (r *Registry) Live(ctx context.Context) Report { return r.live.report(ctx, r) }

// group is the checks behind one question.
type group struct {
	ok, failing string

	mu     sync.Mutex
	checks []*entry  // guarded by mu, sorted by name
	last   Report    // guarded by mu
	at     time.Time // guarded by mu; when last was made, zero if it is outdated
}

type entry struct {
	name string
	run  Check

	mu       sync.Mutex
	running  bool // guarded by mu
	wasError bool // guarded by the group's mu
}

func (g *group) add(name string, check Check) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = time.Time{}
	i, found := slices.BinarySearchFunc(g.checks, name, func(e *entry, n string) int { return strings.Compare(e.name, n) })
	e := &entry{name: name, run: check}
	if found {
		g.checks[i] = e
		return
	}
	g.checks = slices.Insert(g.checks, i, e)
}

// report returns the last report or makes a new one. Those who ask meanwhile wait for the same one, so the run is
// detached from the context of whoever happened to come first.
func (g *group) report(ctx context.Context, r *Registry) Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	age := reportAge
	if !g.last.OK {
		age = badReportAge
	}
	if !g.at.IsZero() && time.Since(g.at) < age {
		return g.last
	}
	results := make([]Result, len(g.checks))
	var wg sync.WaitGroup
	for i, e := range g.checks {
		wg.Go(func() { results[i] = e.check(context.WithoutCancel(ctx), r.timeout) })
	}
	wg.Wait()

	report := Report{Status: g.ok, Checks: results, OK: true}
	for i, e := range g.checks {
		err := results[i].err
		if err != nil {
			report.OK, report.Status = false, g.failing
		}
		if failed := err != nil; failed != e.wasError {
			e.wasError = failed
			logTurn(ctx, r.log, e.name, err)
		}
	}
	g.last, g.at = report, time.Now()
	return report
}

func logTurn(ctx context.Context, log *slog.Logger, name string, err error) {
	if err != nil {
		log.WarnContext(ctx, "health check fails", "check", name, obs.KeyError, err)
		return
	}
	log.InfoContext(ctx, "health check passes again", "check", name)
}

func (e *entry) check(ctx context.Context, timeout time.Duration) Result {
	e.mu.Lock()
	hanging := e.running
	e.running = true
	e.mu.Unlock()
	if hanging {
		return result(e.name, errHanging, 0)
	}

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	done := make(chan error, 1)
	go func() {
		err := e.guarded(ctx)
		e.mu.Lock()
		e.running = false
		e.mu.Unlock()
		done <- err
	}()
	select {
	case err := <-done:
		return result(e.name, err, time.Since(start))
	case <-ctx.Done():
		return result(e.name, ctx.Err(), time.Since(start))
	}
}

func (e *entry) guarded(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check panicked: %v", p)
		}
	}()
	return e.run(ctx)
}
