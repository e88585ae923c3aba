// Package standing holds the rules of how an issuer's CA stands: whether it answers, what may still be asked of it, and
// when to try it again.
//
// A CA that fails several times in a row is left alone for a while (its circuit is open), then tried with one request,
// and asked again by all once that has succeeded. Independent of that, no more is asked of a CA at once, or within a
// window of time, than its limits allow.
//
// Every rule is a function of values, the present time among them. The store keeps one Standing for each issuer and
// changes it while it is locked, so that the rules hold across replicas.
package standing

import (
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/retry"
)

// Limits are what may be asked of an issuer. Zero values are the defaults.
type Limits struct {
	// MaxConcurrent is how many requests may be under way at once.
	MaxConcurrent int
	// Rate is how many may be begun within a Window; zero is no bound.
	Rate   int
	Window time.Duration
}

// DefaultConcurrent is how many requests may be under way with an issuer that does not say.
const DefaultConcurrent = 20

// State is the state of an issuer's circuit.
type State string

// The states of a circuit.
const (
	// Closed lets everything through.
	Closed State = "closed"
	// Open lets nothing through until RetryAt.
	Open State = "open"
	// HalfOpen lets one request through, to see what comes of it.
	HalfOpen State = "half_open"
)

// Standing is how an issuer's CA stands. The zero value is that of a CA of which nothing is known.
type Standing struct {
	// Failures are how many requests in a row it has not answered well.
	Failures int
	// OpenedAt is when the circuit opened, or opened again after a try; zero while it is closed.
	OpenedAt time.Time
	// RetryAt is when it may be tried again.
	RetryAt                      time.Time
	LastError                    string
	LastFailureAt, LastSuccessAt time.Time
	// Used is how many requests were begun since WindowStart.
	WindowStart time.Time
	Used        int
}

const (
	// threshold is how many failures in a row open the circuit.
	threshold = 5
	// probing is how long a try may take before the next is let through.
	probing = 2 * time.Minute
	// longest bounds what a CA may ask for that wants to be left alone.
	longest = time.Hour
)

// rest spaces the tries of a CA whose circuit is open.
var rest = retry.Policy{Base: 15 * time.Second, Cap: 5 * time.Minute, Jitter: 0.2}

// State returns the state of the circuit.
func (s *Standing) State(now time.Time) State {
	switch {
	case s.OpenedAt.IsZero():
		return Closed
	case now.Before(s.RetryAt):
		return Open
	default:
		return HalfOpen
	}
}

// Admission says how many of the requests that ask may begin, and of the others why not and when they may.
type Admission struct {
	Granted int
	// Until is when the others may ask again; zero is as soon as one that is under way has ended.
	Until time.Time
	// Why they may not, in words; empty if all may.
	Why string
}

// Admit decides how many of so many requests may begin while so many are under way, and counts those against the rate.
func (s *Standing) Admit(l Limits, underWay, wanted int, now time.Time) Admission {
	if l.MaxConcurrent <= 0 {
		l.MaxConcurrent = DefaultConcurrent
	}
	switch s.State(now) {
	case Open:
		return Admission{Until: s.RetryAt, Why: fmt.Sprintf("its CA has not answered well %d times in a row (%s)", s.Failures, s.LastError)}
	case HalfOpen:
		a := Admission{Granted: 1, Until: now.Add(probing), Why: "its CA is being tried after a failure (" + s.LastError + ")"}
		s.RetryAt = a.Until
		s.begin(l, 1, now)
		if wanted == 1 {
			a.Until, a.Why = time.Time{}, ""
		}
		return a
	case Closed:
	}
	a := Admission{Granted: wanted}
	if free := max(l.MaxConcurrent-underWay, 0); a.Granted > free {
		a.Granted, a.Why = free, fmt.Sprintf("%d requests to its CA are under way, which is its limit", l.MaxConcurrent)
	}
	if l.Rate > 0 {
		if left := max(l.Rate-s.used(l, now), 0); a.Granted > left {
			a.Granted, a.Until = left, s.windowEnd(l, now)
			a.Why = fmt.Sprintf("its budget of %d requests in %s is spent", l.Rate, l.Window)
		}
	}
	s.begin(l, a.Granted, now)
	return a
}

// used is what has been begun in the window that now lies in.
func (s *Standing) used(l Limits, now time.Time) int {
	if s.WindowStart.IsZero() || !now.Before(s.WindowStart.Add(l.Window)) {
		return 0
	}
	return s.Used
}

// Budget returns how much of the budget is used, and when it is whole again; that is zero while nothing of it is used.
func (s *Standing) Budget(l Limits, now time.Time) (used int, renewed time.Time) {
	if used = s.used(l, now); used > 0 {
		renewed = s.windowEnd(l, now)
	}
	return used, renewed
}

// windowEnd is when the budget is whole again.
func (s *Standing) windowEnd(l Limits, now time.Time) time.Time {
	if s.used(l, now) == 0 {
		return now.Add(l.Window)
	}
	return s.WindowStart.Add(l.Window)
}

func (s *Standing) begin(l Limits, n int, now time.Time) {
	if l.Rate <= 0 || n == 0 {
		return
	}
	used := s.used(l, now)
	if used == 0 {
		s.WindowStart = now
	}
	s.Used = used + n
}

// Failed notes that a request which began at a time was not answered well, and reports whether the circuit opened by
// it. After is how long the CA asks to be left alone, zero if it does not say.
func (s *Standing) Failed(what string, began, now time.Time, after time.Duration, chance func() float64) (opened bool) {
	s.LastError, s.LastFailureAt = what, now
	if began.Before(s.OpenedAt) {
		// It began before the circuit opened: the same failure, heard of once more.
		return false
	}
	s.Failures++
	if s.Failures < threshold {
		return false
	}
	opened = s.OpenedAt.IsZero()
	s.OpenedAt = now
	s.RetryAt = now.Add(max(rest.Delay(s.Failures-threshold+1, chance), min(after, longest)))
	return opened
}

// Succeeded notes that a request was answered well, and reports whether the circuit closed by it.
func (s *Standing) Succeeded(now time.Time) (closed bool) {
	closed = !s.OpenedAt.IsZero()
	s.Failures, s.OpenedAt, s.RetryAt, s.LastSuccessAt = 0, time.Time{}, time.Time{}, now
	return closed
}
