package fresh

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var limits = Limits{Fresh: time.Second, Old: 2 * time.Second}

// counter makes answers 1, 2, 3 and so on, each in a tenth of a second.
type counter struct{ made atomic.Int64 }

func (c *counter) make(context.Context) (int64, error) {
	time.Sleep(100 * time.Millisecond) //nolint:forbidigo // within a bubble of synctest it takes no time
	return c.made.Add(1), nil
}

func get(t *testing.T, a *Answers[string, int64], c *counter) (int64, time.Duration) {
	t.Helper()
	begun := time.Now()
	n, err := a.Get(t.Context(), "key", limits, c.make)
	if err != nil {
		t.Fatal(err)
	}
	return n, time.Since(begun)
}

func TestAnswers_AreGivenWhileFreshMadeInTheBackgroundWhenOldAndWaitedForWhenTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Answers[string, int64]
		var c counter
		for _, s := range []struct {
			name   string
			pass   time.Duration
			want   int64
			waited time.Duration
		}{
			{"the first is waited for", 0, 1, 100 * time.Millisecond},
			{"it is fresh", 800 * time.Millisecond, 1, 0},
			{"it is given, and another made", 200 * time.Millisecond, 1, 0},
			{"which is there then", 150 * time.Millisecond, 2, 0},
			{"too old", 5 * time.Second, 3, 100 * time.Millisecond},
		} {
			time.Sleep(s.pass) //nolint:forbidigo // within a bubble of synctest it takes no time
			if n, waited := get(t, &a, &c); n != s.want || waited != s.waited {
				t.Errorf("%s: answer %d after %s", s.name, n, waited)
			}
		}
		synctest.Wait()
	})
}

func TestAnswers_AreMadeOnceHoweverManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Answers[string, int64]
		var c counter
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if n, _ := get(t, &a, &c); n != 1 {
					t.Errorf("answer %d", n)
				}
			})
		}
		all.Wait()
	})
}

func TestAnswers_AreApartByKey(t *testing.T) {
	var a Answers[int, int]
	for i := range 3 * maxKeys {
		n, err := a.Get(t.Context(), i, limits, func(context.Context) (int, error) { return i, nil })
		if n != i || err != nil {
			t.Fatalf("key %d has the answer %d, %v", i, n, err)
		}
	}
	if len(a.kept) > maxKeys {
		t.Errorf("%d are kept", len(a.kept))
	}
}

func TestAnswers_ThatCannotBeMadeAreNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Answers[string, int64]
		var c counter
		failure := errors.New("the database is away")
		fail := func(context.Context) (int64, error) { return 0, failure }
		if _, err := a.Get(t.Context(), "key", limits, fail); !errors.Is(err, failure) {
			t.Errorf("got %v", err)
		}
		if n, _ := get(t, &a, &c); n != 1 {
			t.Errorf("answer %d", n)
		}
		time.Sleep(1500 * time.Millisecond) //nolint:forbidigo // within a bubble of synctest it takes no time
		if n, err := a.Get(t.Context(), "key", limits, fail); n != 1 || err != nil {
			t.Errorf("answer %d, %v, though one is there", n, err)
		}
		time.Sleep(time.Second) //nolint:forbidigo // within a bubble of synctest it takes no time
		if _, err := a.Get(t.Context(), "key", limits, fail); !errors.Is(err, failure) {
			t.Errorf("got %v for an answer that is too old", err)
		}
	})
}

func TestAnswers_AreNotWaitedForByWhoHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Answers[string, int64]
		var c counter
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.Get(gone, "key", limits, c.make); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		// What it began is there for the next.
		time.Sleep(200 * time.Millisecond) //nolint:forbidigo // within a bubble of synctest it takes no time
		if n, waited := get(t, &a, &c); n != 1 || waited != 0 {
			t.Errorf("answer %d after %s", n, waited)
		}
	})
}
