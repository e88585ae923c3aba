// Package sweep does the work that is due at a time: it sleeps until the next of it,
// and is woken when a commit made some earlier.
//
// Every task claims its work in Postgres, so any number of replicas may sweep. A task
// that fails is tried again; what is due never waits for longer than the safety sweep,
// whatever was missed.
package sweep

import (
	"context"
	"log/slog"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/retry"
)

// Task is one kind of work.
type Task struct {
	Name string
	// Do works on some of what is due, and returns how much it was. It is called again
	// until nothing is left.
	Do func(ctx context.Context) (int, error)
	// Next is when the next of it is due; the zero time if none is known of.
	Next func(ctx context.Context) (time.Time, error)
}

// Sweeper repeats tasks. Make it with New.
type Sweeper struct {
	tasks []Task
	every time.Duration
	clock clock.Clock
	log   *slog.Logger
	wake  chan struct{}
}

// New takes tasks that may follow each other, and how long they may sleep at most.
func New(every time.Duration, clk clock.Clock, log *slog.Logger, tasks ...Task) *Sweeper {
	return &Sweeper{tasks: tasks, every: every, clock: clk, log: log, wake: make(chan struct{}, 1)}
}

// Wake has the tasks look for work. It never blocks.
func (s *Sweeper) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pause keeps a task from spinning on work that another replica has claimed.
const pause = 20 * time.Millisecond

// backoff spaces the attempts of a task that fails.
var backoff = retry.Policy{Base: 250 * time.Millisecond, Cap: 15 * time.Second, Jitter: 0.3}

// Run works until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-timer.C:
		}
		wait, failed := s.pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if failed {
			failures++
			wait = min(wait, backoff.Delay(failures, nil))
		} else {
			failures = 0
		}
		timer.Reset(wait)
	}
}

// pass does all that is due and returns how long there is nothing more.
func (s *Sweeper) pass(ctx context.Context) (wait time.Duration, failed bool) {
	wait = s.every
	for _, t := range s.tasks {
		due, err := s.exhaust(ctx, t)
		if ctx.Err() != nil {
			return 0, false
		}
		if err != nil {
			failed = true
			s.log.WarnContext(ctx, "due work failed and is tried again", "task", t.Name, obs.KeyError, err)
			continue
		}
		if !due.IsZero() {
			wait = min(wait, max(due.Sub(s.clock.Now()), pause))
		}
	}
	return wait, failed
}

func (s *Sweeper) exhaust(ctx context.Context, t Task) (next time.Time, err error) {
	for {
		n, err := t.Do(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if n == 0 {
			break
		}
	}
	return t.Next(ctx)
}
