package fresh

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("away")

// maker makes numbers that count up and last an hour, half of which is the time to renew.
type maker struct {
	clock *clock.Manual
	began chan struct{} // if not nil, each attempt says that it began
	gate  chan struct{} // if not nil, and then waits

	mu    sync.Mutex
	made  int   // under mu
	err   error // under mu
	tries int   // under mu
}

func (m *maker) make(_ context.Context, _ string) (Value[int], error) {
	if m.gate != nil {
		m.began <- struct{}{}
		<-m.gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries++
	if m.err != nil {
		return Value[int]{}, m.err
	}
	m.made++
	now := m.clock.Now()
	return Value[int]{Of: m.made, RenewAt: now.Add(30 * time.Minute), Until: now.Add(time.Hour)}, nil
}

func (m *maker) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *maker) attempts() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tries
}

func newKeeper(t *testing.T) (*Keeper[string, int], *maker, *clock.Manual) {
	c := clock.At(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
	m := &maker{clock: c}
	k := &Keeper[string, int]{Clock: c, Make: m.make}
	t.Cleanup(k.Wait)
	return k, m, c
}

func get(t *testing.T, k *Keeper[string, int], want int) {
	t.Helper()
	if got, err := k.Get(t.Context(), "a"); err != nil || got != want {
		t.Fatalf("got %d, %v; want %d", got, err, want)
	}
}

func TestGet_MakesAValueWhenThereIsNoneAndKeepsItHalfItsLife(t *testing.T) {
	k, m, c := newKeeper(t)
	get(t, k, 1)
	c.Advance(30*time.Minute - time.Second)
	get(t, k, 1)
	if m.attempts() != 1 {
		t.Errorf("%d attempts", m.attempts())
	}
	c.Advance(time.Second)
	get(t, k, 1) // the new one is being made
	k.Wait()
	get(t, k, 2)
}

func TestGet_NeverWaitsWhileTheOldOneIsGood(t *testing.T) {
	k, m, c := newKeeper(t)
	get(t, k, 1)
	m.gate, m.began = make(chan struct{}), make(chan struct{}, 10)
	c.Advance(45 * time.Minute)
	for range 5 {
		get(t, k, 1)
	}
	<-m.began
	m.gate <- struct{}{}
	k.Wait()
	if len(m.began) != 0 {
		t.Error("more than one attempt was made")
	}
	get(t, k, 2)
}

func TestGet_MakesOneValueForAllWhoWait(t *testing.T) {
	k, m, _ := newKeeper(t)
	m.gate, m.began = make(chan struct{}), make(chan struct{}, 10)
	results := make(chan int)
	for range 8 {
		go func() {
			n, _ := k.Get(context.WithoutCancel(t.Context()), "a")
			results <- n
		}()
	}
	<-m.began
	m.gate <- struct{}{}
	for range 8 {
		if n := <-results; n != 1 {
			t.Errorf("got %d", n)
		}
	}
}

func TestGet_HandsOutTheOldOneUntilItsEnd(t *testing.T) {
	k, m, c := newKeeper(t)
	get(t, k, 1)
	m.fail(errAway)
	c.Advance(time.Hour - time.Nanosecond)
	get(t, k, 1)
	k.Wait()
	c.Advance(pause)
	if _, err := k.Get(t.Context(), "a"); !errors.Is(err, errAway) {
		t.Errorf("got %v after its end", err)
	}
	m.fail(nil)
	c.Advance(pause)
	get(t, k, 2)
}

func TestGet_PausesBetweenFailures(t *testing.T) {
	k, m, c := newKeeper(t)
	m.fail(errAway)
	for range 5 {
		if _, err := k.Get(t.Context(), "a"); !errors.Is(err, errAway) {
			t.Fatal(err)
		}
	}
	if m.attempts() != 1 {
		t.Errorf("%d attempts without a pause", m.attempts())
	}
	c.Advance(pause)
	_, _ = k.Get(t.Context(), "a")
	if m.attempts() != 2 {
		t.Errorf("%d attempts after a pause", m.attempts())
	}
}

func TestGet_EndsWithItsCallerAndNotTheAttempt(t *testing.T) {
	k, m, _ := newKeeper(t)
	m.gate, m.began = make(chan struct{}), make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-m.began; cancel() }()
	if _, err := k.Get(ctx, "a"); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	m.gate <- struct{}{}
	k.Wait()
	get(t, k, 1)
}

func TestGet_SurvivesAMakerThatPanicsOrIsLate(t *testing.T) {
	k, m, c := newKeeper(t)
	k.Make = func(context.Context, string) (Value[int], error) { panic("oh") }
	if _, err := k.Get(t.Context(), "a"); err == nil {
		t.Error("a panic is no error")
	}
	c.Advance(pause)
	k.Make = func(context.Context, string) (Value[int], error) { return Value[int]{Of: 7, Until: c.Now()}, nil }
	if v, err := k.Get(t.Context(), "a"); err == nil {
		t.Errorf("%d was handed out after its end", v)
	}
	c.Advance(pause)
	k.Make = m.make
	get(t, k, 1)
}

func TestGet_ForgetsKeysThatRanOut(t *testing.T) {
	k, _, c := newKeeper(t)
	get(t, k, 1)
	c.Advance(time.Hour)
	if _, err := k.Get(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.entries) != 1 {
		t.Errorf("%d keys are known", len(k.entries))
	}
}
