package sweep

import (
	"context"
	"time"

	"github.com/certctl/certctl/libs/clock"
)

// Unplanned is the Next of work that nobody knows the time of: a wake or the safety
// sweep finds it.
func Unplanned(context.Context) (time.Time, error) { return time.Time{}, nil }

// Every is work that is to be done at intervals, whether there is any or not.
func Every(name string, interval time.Duration, clk clock.Clock, do func(ctx context.Context) error) Task {
	var due time.Time
	return Task{
		Name: name,
		Do: func(ctx context.Context) (int, error) {
			if now := clk.Now(); now.Before(due) {
				return 0, nil
			}
			if err := do(ctx); err != nil {
				return 0, err
			}
			due = clk.Now().Add(interval)
			return 1, nil
		},
		Next: func(context.Context) (time.Time, error) { return due, nil },
	}
}

// Once is work that is to be done until it succeeds.
func Once(name string, do func(ctx context.Context) error) Task {
	done := false
	return Task{
		Name: name,
		Do: func(ctx context.Context) (int, error) {
			if done {
				return 0, nil
			}
			if err := do(ctx); err != nil {
				return 0, err
			}
			done = true
			return 1, nil
		},
		Next: Unplanned,
	}
}
