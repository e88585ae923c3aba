package standing_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/standing"
)

var start = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func never() float64 { return 0 }

func at(d time.Duration) time.Time { return start.Add(d) }

// broken is a CA whose circuit has just opened.
func broken(t *testing.T) *standing.Standing {
	t.Helper()
	var s standing.Standing
	for i := range 5 {
		if s.Failed("HTTP 500", start, start, 0, never) != (i == 4) {
			t.Fatalf("failure %d: opened too early or too late", i+1)
		}
	}
	return &s
}

func TestStanding_LeavesACAAloneThatFailsFiveTimesInARow(t *testing.T) {
	s := broken(t)
	if got := s.State(start); got != standing.Open {
		t.Fatalf("the circuit is %s", got)
	}
	a := s.Admit(standing.Limits{}, 0, 3, start)
	if a.Granted != 0 || !a.Until.Equal(at(15*time.Second)) || !strings.Contains(a.Why, "HTTP 500") {
		t.Errorf("admitted %+v", a)
	}
}

func TestStanding_TriesWithOneRequestAndClosesWhenItSucceeds(t *testing.T) {
	s := broken(t)
	a := s.Admit(standing.Limits{}, 0, 3, at(15*time.Second))
	if a.Granted != 1 || a.Why == "" {
		t.Fatalf("admitted %+v", a)
	}
	if again := s.Admit(standing.Limits{}, 1, 2, at(16*time.Second)); again.Granted != 0 {
		t.Errorf("a second request was let through while the first is a try: %+v", again)
	}
	if !s.Succeeded(at(20*time.Second)) || s.State(at(20*time.Second)) != standing.Closed {
		t.Error("the circuit stays open after a success")
	}
	if a := s.Admit(standing.Limits{}, 0, 3, at(21*time.Second)); a.Granted != 3 || a.Why != "" {
		t.Errorf("admitted %+v", a)
	}
}

func TestStanding_RestsLongerEachTimeAndAsLongAsTheCAAsks(t *testing.T) {
	s := broken(t)
	var now time.Time
	var last time.Duration
	for range 8 {
		now = s.RetryAt
		if s.Admit(standing.Limits{}, 0, 1, now).Granted != 1 {
			t.Fatal("it is not tried again")
		}
		if s.Failed("HTTP 500", now, now, 0, never) {
			t.Error("opened, but it was open")
		}
		rest := s.RetryAt.Sub(now)
		if rest < last || rest > 5*time.Minute {
			t.Errorf("rests %s after %s", rest, last)
		}
		last = rest
	}
	now = s.RetryAt
	s.Failed("HTTP 429", now, now, 20*time.Minute, never)
	if got := s.RetryAt.Sub(now); got != 20*time.Minute {
		t.Errorf("the CA asked for 20 minutes and gets %s", got)
	}
}

func TestStanding_CountsOneOutageOnceHoweverManyRequestsWereUnderWay(t *testing.T) {
	s := broken(t)
	before := s.RetryAt
	for range 20 {
		s.Failed("HTTP 500", at(-time.Second), at(time.Second), 0, never)
	}
	if !s.RetryAt.Equal(before) || s.Failures != 5 {
		t.Errorf("%d failures, tried again at %s", s.Failures, s.RetryAt)
	}
}

func TestStanding_StartsToCountAnewAfterASuccess(t *testing.T) {
	var s standing.Standing
	for range 3 {
		for range 4 {
			if s.Failed("HTTP 500", start, start, 0, never) {
				t.Fatal("opened")
			}
		}
		s.Succeeded(start)
	}
}

func TestStanding_LetsNoMoreThroughThanItsLimits(t *testing.T) {
	limits := standing.Limits{MaxConcurrent: 4, Rate: 10, Window: time.Hour}
	var s standing.Standing
	if a := s.Admit(limits, 1, 9, start); a.Granted != 3 || !a.Until.IsZero() || a.Why == "" {
		t.Errorf("with one under way: %+v", a)
	}
	if a := s.Admit(limits, 0, 4, at(time.Minute)); a.Granted != 4 || a.Why != "" {
		t.Errorf("within both: %+v", a)
	}
	if a := s.Admit(limits, 0, 4, at(2*time.Minute)); a.Granted != 3 || !a.Until.Equal(at(time.Hour)) {
		t.Errorf("at the end of the budget: %+v", a)
	}
	if a := s.Admit(limits, 0, 1, at(59*time.Minute)); a.Granted != 0 {
		t.Errorf("with nothing left: %+v", a)
	}
	if a := s.Admit(limits, 0, 4, at(time.Hour)); a.Granted != 4 {
		t.Errorf("in the next window: %+v", a)
	}
	if a := (&standing.Standing{}).Admit(standing.Limits{}, 0, 100, start); a.Granted != standing.DefaultConcurrent {
		t.Errorf("without limits of its own: %+v", a)
	}
}
