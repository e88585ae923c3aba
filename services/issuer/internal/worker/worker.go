// Package worker keeps the jobs going: it works whenever something is due, and sleeps until something is.
//
// It is woken by what commits work in this process and by the clock when the next job falls due; a sweep finds what
// another replica left behind. Any number of workers may run on one schema: each job is leased to one of them.
package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/retry"
)

// DefaultSweep is how often jobs are looked for without being told of any.
const DefaultSweep = 30 * time.Second

// pause spaces the tries while the database is away.
var pause = retry.Policy{Base: 100 * time.Millisecond, Cap: 5 * time.Second, Jitter: 0.3}

// Jobs is the work.
type Jobs interface {
	// Work does what is due, and reports whether more may be.
	Work(ctx context.Context) (more bool, err error)
}

// Schedule knows when the next job is due.
type Schedule interface {
	// NextDue returns false when none is.
	NextDue(ctx context.Context) (time.Time, bool, error)
}

// Worker works on jobs. Make it with New.
type Worker struct {
	jobs     Jobs
	schedule Schedule
	clock    clock.Clock
	log      *slog.Logger
	sweep    time.Duration
	wake     chan struct{}

	// Linger is how long a wake waits for others, for work that is not urgent. Set it before Run.
	Linger time.Duration
}

// New returns a worker that sweeps at the given interval, or at DefaultSweep if that is zero.
func New(jobs Jobs, schedule Schedule, c clock.Clock, log *slog.Logger, sweep time.Duration) *Worker {
	if sweep == 0 {
		sweep = DefaultSweep
	}
	return &Worker{jobs: jobs, schedule: schedule, clock: c, log: log, sweep: sweep, wake: make(chan struct{}, 1)}
}

// Wake tells the worker that there may be work. It never blocks, and wakes that come together count as one.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, finishes the batch in hand, and returns nil.
func (w *Worker) Run(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		// A batch that was begun is finished: half-way its leases would only have to run out.
		more, err := w.jobs.Work(context.WithoutCancel(ctx))
		var wait time.Duration
		switch {
		case err != nil:
			failures++
			wait = pause.Delay(failures, nil)
			w.log.WarnContext(ctx, "jobs could not be worked on", obs.KeyError, err)
		case more:
			failures = 0
			continue
		default:
			failures = 0
			wait = w.untilDue(ctx)
		}
		w.rest(ctx, wait, err == nil)
	}
	return nil
}

// untilDue is how long to sleep if nothing wakes the worker.
func (w *Worker) untilDue(ctx context.Context) time.Duration {
	at, waiting, err := w.schedule.NextDue(ctx)
	if err != nil || !waiting {
		return w.sweep
	}
	return min(max(at.Sub(w.clock.Now()), time.Millisecond, w.Linger), w.sweep)
}

func (w *Worker) rest(ctx context.Context, d time.Duration, wakeable bool) {
	wake := w.wake
	if !wakeable {
		wake = nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
		w.linger(ctx)
	case <-t.C:
	}
}

func (w *Worker) linger(ctx context.Context) {
	if w.Linger == 0 {
		return
	}
	t := time.NewTimer(w.Linger)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
