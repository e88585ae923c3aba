// Package pace spaces rounds of work that cost nearly the same for one thing as for many: a transaction, a write of the
// bus that syncs. A round that follows others closely waits a little, and finds more to do.
//
// It guarantees that what little there is to do never waits: rounds are spaced only from the rate on from which that
// pays, and after a burst of a quarter of a second's worth. It does not wait itself, and has no goroutine.
package pace

import "time"

const (
	rate  = 400 // things a second from which rounds are spaced
	burst = 100 // things that go at once before
	// Every is the time between rounds that are spaced.
	Every = 20 * time.Millisecond
	// Crowded is that between rounds with so much to do that their own cost begins to count again: crowd things or more in
	// the one before.
	Crowded = 100 * time.Millisecond
	crowd   = 30
)

// Pace is that of one loop, whose goroutine alone may use it. The zero value is that of a loop that has done nothing yet.
type Pace struct {
	level   float64 // things done of late, which drain at the rate
	last    time.Time
	crowded bool
}

// Done notes that a round with n things has ended.
func (p *Pace) Done(n int, now time.Time) {
	p.level = p.drained(now) + float64(n)
	p.last, p.crowded = now, n >= crowd
}

// Wait is how long the next round has to wait, zero for not at all.
func (p *Pace) Wait(now time.Time) time.Duration {
	if p.drained(now) <= burst {
		return 0
	}
	every := Every
	if p.crowded {
		every = Crowded
	}
	return max(0, every-now.Sub(p.last))
}

func (p *Pace) drained(now time.Time) float64 {
	return max(0, p.level-now.Sub(p.last).Seconds()*rate)
}
