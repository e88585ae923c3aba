// Package retry says how long to wait before trying again, and does so for short work.
//
// A Policy is a value: delays double from Base up to Cap, and Jitter spreads them so that those who failed together do
// not return together. Work that outlives a process keeps its attempt count in its row and asks Delay for the next
// time; Do is for the seconds within one request or start-up.
package retry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/certctl/certctl/libs/fault"
)

// Policy is a schedule of attempts. The zero value tries at once and for ever.
type Policy struct {
	// Base is the delay after the first attempt.
	Base time.Duration
	// Cap is the longest delay. Zero means no limit.
	Cap time.Duration
	// Jitter is the share of a delay, 0 to 1, that chance may take off.
	Jitter float64
	// MaxAttempts is how often the work is tried in all. Zero means for ever.
	MaxAttempts int
}

// Delay returns the wait after the given attempt; the first is 1. It is never longer than Cap. The chance comes from
// rnd, which returns values in [0, 1); nil means the process's own source.
func (p Policy) Delay(attempt int, rnd func() float64) time.Duration {
	if rnd == nil {
		rnd = rand.Float64
	}
	d := p.Base
	for range attempt - 1 {
		if d == 0 || d >= 1<<62 || p.Cap > 0 && d >= p.Cap {
			break
		}
		d *= 2
	}
	if p.Cap > 0 {
		d = min(d, p.Cap)
	}
	return d - time.Duration(float64(d)*p.Jitter*rnd())
}

// Exhausted reports whether the given number of attempts is all that the policy grants.
func (p Policy) Exhausted(attempts int) bool {
	return p.MaxAttempts > 0 && attempts >= p.MaxAttempts
}

// Do calls f until it succeeds, fails in a way that repetition cannot cure (fault.VerdictOf says Term), the policy is
// exhausted, or ctx ends. A fault that asks for a longer wait is given it. The error is f's last one, joined with the
// context's when that ended the waiting.
func Do(ctx context.Context, p Policy, f func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		err := f(ctx)
		if err == nil || fault.VerdictOf(err) == fault.Term {
			return err
		}
		if p.Exhausted(attempt) {
			return fmt.Errorf("after %d attempts: %w", attempt, err)
		}
		if ctxErr := wait(ctx, max(p.Delay(attempt, nil), fault.From(err).RetryAfter)); ctxErr != nil {
			return errors.Join(err, ctxErr)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return ctx.Err()
	}
}
