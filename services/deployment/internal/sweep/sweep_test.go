package sweep_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/deployment/internal/sweep"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// pass lets time pass in the bubble.
func pass(d time.Duration) { <-time.After(d) }

func run(t *testing.T, s *sweep.Sweeper) {
	t.Helper()
	go func() {
		if err := s.Run(t.Context()); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	synctest.Wait()
}

func TestSweeper_SleepsUntilTheNextWorkIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		due := time.Now().Add(10 * time.Second)
		var done atomic.Int32
		s := sweep.New(time.Minute, clock.System, slog.New(slog.DiscardHandler), sweep.Task{
			Name: "work",
			Do: func(context.Context) (int, error) {
				if due.IsZero() || time.Now().Before(due) {
					return 0, nil
				}
				due = time.Time{}
				done.Add(1)
				return 1, nil
			},
			Next: func(context.Context) (time.Time, error) { return due, nil },
		})
		run(t, s)
		pass(9 * time.Second)
		if done.Load() != 0 {
			t.Error("done too early")
		}
		pass(time.Second + 50*time.Millisecond)
		synctest.Wait()
		if done.Load() != 1 {
			t.Error("not done when due")
		}
	})
}

func TestSweeper_IsWokenAndSweepsInAnyCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passes atomic.Int32
		s := sweep.New(time.Minute, clock.System, slog.New(slog.DiscardHandler), sweep.Task{
			Name: "work",
			Do:   func(context.Context) (int, error) { passes.Add(1); return 0, nil },
			Next: sweep.Unplanned,
		})
		run(t, s)
		for range 3 {
			s.Wake()
		}
		synctest.Wait()
		if n := passes.Load(); n < 2 || n > 4 {
			t.Errorf("%d passes after a wake", n)
		}
		before := passes.Load()
		pass(time.Minute + time.Second)
		synctest.Wait()
		if passes.Load() != before+1 {
			t.Errorf("%d passes in a minute, want one", passes.Load()-before)
		}
	})
}

func TestSweeper_TriesFailedWorkAgainBeforeTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries, other atomic.Int32
		s := sweep.New(time.Hour, clock.System, slog.New(slog.DiscardHandler),
			sweep.Once("stubborn", func(context.Context) error {
				if tries.Add(1) < 4 {
					return errors.New("not yet")
				}
				return nil
			}),
			sweep.Every("hourly", 20*time.Minute, clock.System, func(context.Context) error { other.Add(1); return nil }),
		)
		run(t, s)
		pass(time.Minute)
		synctest.Wait()
		if tries.Load() != 4 || other.Load() != 1 {
			t.Errorf("tried %d times, other work %d times", tries.Load(), other.Load())
		}
		pass(time.Hour)
		synctest.Wait()
		if tries.Load() != 4 || other.Load() != 4 {
			t.Errorf("after an hour: tried %d times, other work %d times", tries.Load(), other.Load())
		}
	})
}
