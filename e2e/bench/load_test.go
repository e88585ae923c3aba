package main

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

func TestPercentile_IsTheNearestRank(t *testing.T) {
	values := []time.Duration{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for share, want := range map[float64]time.Duration{0: 1, 0.1: 1, 0.5: 5, 0.51: 6, 0.99: 10, 1: 10} {
		if got := percentile(values, share); got != want {
			t.Errorf("percentile %v is %d, want %d", share, got, want)
		}
	}
	if percentile(nil, 0.5) != 0 {
		t.Error("of nothing there is a percentile")
	}
}

func TestLoad_RunsEachOperationOnce(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]int{}
	times, _, err := load(t.Context(), 7, 100, func(_ context.Context, i int) error {
		mu.Lock()
		defer mu.Unlock()
		seen[i]++
		return nil
	})
	if err != nil || len(times) != 100 || len(seen) != 100 {
		t.Errorf("%d times, %d operations, %v", len(times), len(seen), err)
	}
}

func TestLoad_EndsAtTheFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	if _, _, err := load(t.Context(), 2, 1000, func(context.Context, int) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
