package renewal

import (
	"fmt"
	"hash/fnv"
	"time"
)

const (
	// spread is the part of the window over which renewals are spread: 1 / spread of it, from its opening on.
	spread = 10
	// pauseCap is the longest that passes before a renewal that has failed, or was called off, is tried anew.
	pauseCap = day
	// pausePart is the part of a lifetime that passes instead, if that is less.
	pausePart = 10
	// marginCap is how long before the end a maintenance window has to open to be of use.
	marginCap = time.Hour
	// marginPart is the part of a lifetime instead, if that is less.
	marginPart = 24
)

// Certificate is what the rules need to know of one.
type Certificate struct {
	ID string
	// Renewable is false while a job is under way for it, or where it is never to be renewed, which Why says.
	Renewable bool
	Why       string
	// IssuedAt is when the newest version was made, NotAfter its end. That it says to be valid from an earlier time, for
	// hosts whose clocks are slow, makes its life no longer.
	IssuedAt, NotAfter time.Time
	// Failed is when the latest renewal of this version failed or was called off, or this version was rolled back; zero if
	// none did.
	Failed time.Time
	// Told is the lowest threshold that people have been told of for this version; nil if none.
	Told *int
	// Advised is when its CA wants it to be renewed, if it has said; of it Start is not looked at.
	Advised Advice
}

func (c *Certificate) lifetime() time.Duration { return max(c.NotAfter.Sub(c.IssuedAt), 0) }

// Opens is when the window of renewal opens. Days that leave less than a tenth of the lifetime before it open it when the
// lifetime is half over, so that no certificate is renewed as soon as it is issued, over and over.
func (p *Policy) Opens(c *Certificate) time.Time {
	if p.WindowPercent > 0 {
		return c.NotAfter.Add(-c.lifetime() / 100 * time.Duration(p.WindowPercent))
	}
	window := time.Duration(p.WindowDays) * day
	if window > c.lifetime()-c.lifetime()/10 {
		window = c.lifetime() / 2
	}
	return c.NotAfter.Add(-window)
}

// share is a number in [0, 1) that follows from an id, and is spread evenly over ids.
func share(id string) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	x := h.Sum64()
	// FNV leaves short ids that differ in their last letters close together; this is the finish of splitmix64.
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

// Due is when the certificate is to be renewed if nothing stands in the way: within the first tenth of the window, at a
// place that follows from its id, so that a fleet that was issued at once is not renewed at once.
func (p *Policy) Due(c *Certificate) time.Time {
	opens := p.Opens(c)
	return opens.Add(Spread(c.ID, c.NotAfter.Sub(opens)/spread)).Truncate(time.Second)
}

// Pause is how long after a failure a renewal is begun anew: a day, less for certificates that do not live long.
func Pause(lifetime time.Duration) time.Duration {
	return max(min(pauseCap, lifetime/pausePart), time.Minute)
}

// Verdict is what is to be done about the renewal of a certificate, and why.
type Verdict struct {
	// At is when it begins; zero is never, as things are.
	At time.Time
	// WindowMissed is true if no maintenance window opens in time, so that it begins outside of any.
	WindowMissed bool
	Reason       string
}

// Now reports whether the renewal is to begin.
func (v Verdict) Now(now time.Time) bool { return !v.At.IsZero() && !now.Before(v.At) }

// Judge says when a certificate is renewed of its own accord.
//
// What its CA advises counts instead of the policy's window, be it earlier or later: the CA knows of revocations to come,
// and when it is busy. Without advice the policy's window counts. A maintenance window is waited for only within the
// CA's.
//
// It begins when it is due, in the first maintenance window from then on. If none opens in time, jitter is forgone; if
// then none does either, or the last has been missed, it begins outside of any window as soon as it is due, since a
// certificate that runs out is worse than one that is replaced at an inconvenient hour. Where a person has to approve
// it, it is asked for when it is due, and windows hold for what follows the approval (see [Policy.Start]).
func (p *Policy) Judge(c *Certificate, now time.Time) Verdict {
	switch {
	case !c.Renewable:
		return Verdict{Reason: c.Why}
	case !p.AutoRenew:
		return Verdict{Reason: "auto_renew of policy " + p.ID + " is off"}
	}
	due, opens := p.Due(c), p.Opens(c)
	reason := "its renewal window has opened at " + stamp(opens)
	if now.Before(opens) {
		reason = "its renewal window opens at " + stamp(opens)
	}
	if at := c.Advised.At; !at.IsZero() {
		due, opens = at, at
		reason = "its CA advises to renew it at " + stamp(at) + ", in a window until " + stamp(c.Advised.End)
		if at.After(c.Advised.End) {
			reason = "its CA wants it renewed since " + stamp(c.Advised.End) + "; " + stamp(at) + " is the first time that is not too soon after its issue"
		}
	}
	if again := c.Failed.Add(Pause(c.lifetime())); !c.Failed.IsZero() && again.After(due) {
		due, opens = again, again
		reason = "the renewal before ended without a version at " + stamp(c.Failed)
	}
	if p.ApprovalRequired || len(p.Windows) == 0 {
		return Verdict{At: due, Reason: reason}
	}
	for _, from := range []time.Time{later(due, now), later(opens, now)} {
		if at, ok := p.opening(from, c); ok {
			return Verdict{At: at, Reason: reason + "; its maintenance window opens at " + stamp(at)}
		}
	}
	return Verdict{At: due, WindowMissed: true, Reason: fmt.Sprintf(
		"%s; no maintenance window of policy %s opens in time before it %s, so it is renewed outside of any",
		reason, p.ID, c.limit())}
}

// Start is when a renewal of its own accord that a person has approved begins, by the maintenance windows.
func (p *Policy) Start(c *Certificate, now time.Time) Verdict {
	if at, ok := p.opening(now, c); ok {
		if !at.After(now) {
			return Verdict{At: now}
		}
		return Verdict{At: at, Reason: "approved; waits for its maintenance window, which opens at " + stamp(at)}
	}
	return Verdict{At: now, WindowMissed: true, Reason: fmt.Sprintf(
		"approved; no maintenance window of policy %s opens in time before it %s, so it is renewed outside of any",
		p.ID, c.limit())}
}

// opening is when a maintenance window opens that is early enough to be of use.
func (p *Policy) opening(from time.Time, c *Certificate) (time.Time, bool) {
	at, ok := Opening(p.Windows, from)
	return at, ok && at.Before(c.NotAfter.Add(-min(marginCap, c.lifetime()/marginPart))) &&
		(c.Advised.At.IsZero() || at.Before(c.Advised.End))
}

// limit says by when a maintenance window has to open.
func (c *Certificate) limit() string {
	if end := c.Advised.End; !c.Advised.At.IsZero() && end.Before(c.NotAfter) {
		return "has to be renewed by " + stamp(end)
	}
	return "expires at " + stamp(c.NotAfter)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Spread is a duration below d that follows from an id.
func Spread(id string, d time.Duration) time.Duration { return time.Duration(float64(d) * share(id)) }
