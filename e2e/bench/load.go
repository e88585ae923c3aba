package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// load runs an operation n times from a number of clients at once and returns how long
// each took, sorted, and how long all of them did. The first failure ends it.
func load(ctx context.Context, clients, n int, op func(ctx context.Context, i int) error) ([]time.Duration, time.Duration, error) {
	var next atomic.Int64
	var mu sync.Mutex
	all := make([]time.Duration, 0, n)
	g, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for range clients {
		g.Go(func() error {
			own := make([]time.Duration, 0, n/clients+1)
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				begun := time.Now()
				if err := op(ctx, i); err != nil {
					return err
				}
				own = append(own, time.Since(begun))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			return nil
		})
	}
	err := g.Wait()
	took := time.Since(start)
	slices.Sort(all)
	return all, took, err
}

// percentile of sorted values: the smallest that at least that share of them is not
// above (nearest rank).
func percentile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(share*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}
