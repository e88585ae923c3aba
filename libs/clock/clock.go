// Package clock tells the time to code that must be tested at a chosen time.
//
// Rules take a time.Time; only the code that calls them holds a Clock. Times are UTC and cut to microseconds, which is
// what Postgres stores, so that a time read back equals the time written. They carry no monotonic reading: measure
// durations with package time.
package clock

import (
	"sync"
	"time"
)

// Clock tells the time. Implementations are safe for concurrent use.
type Clock interface {
	Now() time.Time
}

// System is the clock of the machine.
var System Clock = system{}

type system struct{}

func (system) Now() time.Time { return normal(time.Now()) }

// Manual is a clock that moves only when told to, for tests.
type Manual struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

// At returns a manual clock that stands at t.
func At(t time.Time) *Manual { return &Manual{now: normal(t)} }

// Now returns the time the clock stands at.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Set moves the clock to t, forwards or backwards.
func (m *Manual) Set(t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = normal(t)
}

// Advance moves the clock by d and returns the new time.
func (m *Manual) Advance(d time.Duration) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = normal(m.now.Add(d))
	return m.now
}

func normal(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
