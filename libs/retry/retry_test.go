package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/retry"
)

var errBroken = errors.New("broken")

func TestDelay_DoublesUpToTheCap(t *testing.T) {
	p := retry.Policy{Base: time.Second, Cap: 10 * time.Second}
	var got []time.Duration
	for attempt := range 6 {
		got = append(got, p.Delay(attempt, nil))
	}
	s := time.Second
	if diff := cmp.Diff([]time.Duration{s, s, 2 * s, 4 * s, 8 * s, 10 * s}, got); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
}

func TestDelay_JitterOnlyShortens(t *testing.T) {
	p := retry.Policy{Base: time.Second, Cap: time.Minute, Jitter: 0.5}
	half := func() float64 { return 0.5 }
	if got, want := p.Delay(2, half), 1500*time.Millisecond; got != want {
		t.Errorf("delay = %s, want %s", got, want)
	}
}

func TestDelay_StaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := retry.Policy{
			Base:   time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "base")),
			Cap:    time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "cap")),
			Jitter: rapid.Float64Range(0, 1).Draw(t, "jitter"),
		}
		d := p.Delay(rapid.IntRange(1, 1_000_000).Draw(t, "attempt"), nil)
		if d < 0 || p.Cap > 0 && d > p.Cap {
			t.Fatalf("delay = %s", d)
		}
	})
}

func TestDo_TriesUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		calls := 0
		err := retry.Do(t.Context(), retry.Policy{Base: time.Second}, func(context.Context) error {
			if calls++; calls < 4 {
				return errBroken
			}
			return nil
		})
		if err != nil || calls != 4 {
			t.Errorf("err = %v after %d calls", err, calls)
		}
		if got, want := time.Since(start), 7*time.Second; got != want {
			t.Errorf("took %s, want %s", got, want)
		}
	})
}

func TestDo_StopsWhenRepetitionCannotHelp(t *testing.T) {
	calls := 0
	err := retry.Do(t.Context(), retry.Policy{}, func(context.Context) error {
		calls++
		return fault.New(fault.Invalid, "no")
	})
	if fault.CodeOf(err) != fault.Invalid || calls != 1 {
		t.Errorf("err = %v after %d calls", err, calls)
	}
}

func TestDo_StopsWhenThePolicyIsExhausted(t *testing.T) {
	calls := 0
	err := retry.Do(t.Context(), retry.Policy{MaxAttempts: 3}, func(context.Context) error {
		calls++
		return errBroken
	})
	if !errors.Is(err, errBroken) || calls != 3 {
		t.Errorf("err = %v after %d calls", err, calls)
	}
}

func TestDo_WaitsAsLongAsTheFaultAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		calls := 0
		err := retry.Do(t.Context(), retry.Policy{Base: time.Second}, func(context.Context) error {
			if calls++; calls > 1 {
				return nil
			}
			f := fault.New(fault.RateLimited, "slow down")
			f.RetryAfter = time.Minute
			return f
		})
		if took := time.Since(start); err != nil || took != time.Minute {
			t.Errorf("err = %v after %s", err, took)
		}
	})
}

func TestDo_EndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		err := retry.Do(ctx, retry.Policy{Base: time.Minute}, func(context.Context) error { return errBroken })
		if !errors.Is(err, errBroken) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v, want both what failed and why it was given up", err)
		}
	})
}
