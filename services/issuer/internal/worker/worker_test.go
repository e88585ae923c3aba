package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/services/issuer/internal/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk counts how often it was worked at, and says what it is told to.
type desk struct {
	mu     sync.Mutex
	worked int           // guarded by mu
	more   int           // guarded by mu: how often to say that there is more
	err    error         // guarded by mu
	due    time.Duration // guarded by mu: from now, zero for never
}

func (d *desk) Work(context.Context) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.worked++
	if d.more > 0 {
		d.more--
		return true, nil
	}
	return false, d.err
}

func (d *desk) NextDue(context.Context) (time.Time, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Add(d.due), d.due != 0, nil
}

func (d *desk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.worked
}

// run runs a worker at a desk for the length of a bubble's test.
func run(t *testing.T, d *desk, test func(w *worker.Worker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := worker.New(d, d, clock.System, slog.New(slog.DiscardHandler), time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		test(w)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (d *desk) want(t *testing.T, n int) {
	t.Helper()
	if got := d.count(); got != n {
		t.Errorf("worked %d times, want %d", got, n)
	}
}

func TestWorker_SleepsUntilItIsWokenOrSweeps(t *testing.T) {
	d := &desk{}
	run(t, d, func(w *worker.Worker) {
		d.want(t, 1)
		w.Wake()
		synctest.Wait()
		d.want(t, 2)
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		d.want(t, 3)
	})
}

func TestWorker_IsThereWhenTheNextJobFallsDue(t *testing.T) {
	d := &desk{due: 3 * time.Second}
	run(t, d, func(*worker.Worker) {
		d.want(t, 1)
		time.Sleep(3 * time.Second) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		d.want(t, 2)
	})
}

func TestWorker_GoesOnWhileThereIsMore(t *testing.T) {
	d := &desk{more: 5}
	run(t, d, func(*worker.Worker) { d.want(t, 6) })
}

func TestWorker_TriesAgainAfterAnError(t *testing.T) {
	d := &desk{err: errors.New("no database")}
	run(t, d, func(w *worker.Worker) {
		d.want(t, 1)
		// It is not hurried by those who cannot know.
		w.Wake()
		synctest.Wait()
		d.want(t, 1)
		time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		if d.count() < 3 {
			t.Errorf("worked %d times in a second", d.count())
		}
	})
}
