package gather_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/gather"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a Do that waits to be let go and remembers its batches.
type recorder struct {
	mu      sync.Mutex
	batches [][]string // guarded by mu
	let     chan struct{}
	err     func(batch []string) ([]error, error)
}

func (r *recorder) do(_ context.Context, batch []string) ([]error, error) {
	<-r.let
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, slices.Clone(batch))
	if r.err != nil {
		return r.err(batch)
	}
	return nil, nil
}

func group(r *recorder, limit int) *gather.Group[string] {
	return &gather.Group[string]{
		Key: func(s string) string { k, _, _ := strings.Cut(s, "="); return k },
		Do:  r.do, Max: limit, Timeout: time.Minute,
	}
}

// callAll starts calls one after the other and returns their errors once all have been answered.
func callAll(t *testing.T, g *gather.Group[string], r *recorder, values ...string) []error {
	t.Helper()
	errs := make([]error, len(values))
	var wg sync.WaitGroup
	for i, v := range values {
		wg.Go(func() { errs[i] = g.Call(t.Context(), v) })
		synctest.Wait()
	}
	close(r.let)
	wg.Wait()
	return errs
}

func TestGroup_GathersWhatWaitsWhileABatchIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{let: make(chan struct{})}
		for _, err := range callAll(t, group(r, 3), r, "a", "b", "c", "d", "e") {
			if err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff([][]string{{"a"}, {"b", "c", "d"}, {"e"}}, r.batches); diff != "" {
			t.Error(diff)
		}
	})
}

func TestGroup_KeepsCallsOfOneKeyApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{let: make(chan struct{})}
		callAll(t, group(r, 9), r, "a", "b=1", "b=2", "c")
		if diff := cmp.Diff([][]string{{"a"}, {"b=1", "c"}, {"b=2"}}, r.batches); diff != "" {
			t.Error(diff)
		}
	})
}

func TestGroup_ErrorsStayWithTheirCalls(t *testing.T) {
	bad := errors.New("bad")
	tests := map[string]func(batch []string) ([]error, error){
		"told apart by Do": func(batch []string) ([]error, error) {
			errs := make([]error, len(batch))
			for i, v := range batch {
				if v == "bad" {
					errs[i] = bad
				}
			}
			return errs, nil
		},
		"a batch that fails as a whole": func(batch []string) ([]error, error) {
			if slices.Contains(batch, "bad") {
				return nil, bad
			}
			return nil, nil
		},
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{let: make(chan struct{}), err: do}
				errs := callAll(t, group(r, 9), r, "a", "b", "bad", "c")
				for i, want := range []error{nil, nil, bad, nil} {
					if !errors.Is(errs[i], want) {
						t.Errorf("call %d: %v", i, errs[i])
					}
				}
			})
		})
	}
}

func TestGroup_DoesNotRepeatABatchWhenTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{let: make(chan struct{}), err: func([]string) ([]error, error) { return nil, fault.New(fault.Unavailable, "away") }}
		for i, err := range callAll(t, group(r, 9), r, "a", "b", "c") {
			if fault.CodeOf(err) != fault.Unavailable {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if len(r.batches) != 2 {
			t.Errorf("batches %v", r.batches)
		}
	})
}

func TestGroup_CallerThatLeavesDoesNotEndTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{let: make(chan struct{})}
		g := group(r, 9)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { left <- g.Call(ctx, "a") }()
		synctest.Wait()
		cancel()
		if err := <-left; fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("error %v", err)
		}
		close(r.let)
		synctest.Wait()
		if diff := cmp.Diff([][]string{{"a"}}, r.batches); diff != "" {
			t.Error(diff)
		}
	})
}
