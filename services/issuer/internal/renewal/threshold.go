package renewal

import (
	"math"
	"time"
)

// DefaultThreshold is when a certificate is Expiring if its policy has no threshold before the end.
const DefaultThreshold = 30

// marks are the moments of the thresholds that count for a certificate, in days before its end. The end itself is not
// among them; and one that had passed when the certificate began would tell nobody anything.
func (p *Policy) marks(c *Certificate) []int {
	days := p.ThresholdDays
	if len(days) == 0 {
		days = []int{DefaultThreshold}
	}
	var marks []int
	for _, d := range days {
		if d > 0 && before(c.NotAfter, d).After(c.IssuedAt) {
			marks = append(marks, d)
		}
	}
	return marks
}

func before(end time.Time, days int) time.Time { return end.Add(-time.Duration(days) * day) }

// Alert is the threshold that people are to be told of now: the nearest to the end of those that have passed, unless
// they have been told of it, or of one nearer still. So a certificate that is first seen late is told of once.
func (p *Policy) Alert(c *Certificate, now time.Time) (threshold int, ok bool) {
	nearest := math.MaxInt
	for _, d := range p.marks(c) {
		if !now.Before(before(c.NotAfter, d)) {
			nearest = min(nearest, d)
		}
	}
	return nearest, nearest < math.MaxInt && (c.Told == nil || nearest < *c.Told)
}

// NextMark is the next moment at which a threshold or the end is reached; zero once it has ended.
func (p *Policy) NextMark(c *Certificate, now time.Time) time.Time {
	if !now.Before(c.NotAfter) {
		return time.Time{}
	}
	next := c.NotAfter
	for _, d := range p.marks(c) {
		if at := before(c.NotAfter, d); now.Before(at) && at.Before(next) {
			next = at
		}
	}
	return next
}

// Expiring reports whether the first threshold has been reached.
func (p *Policy) Expiring(c *Certificate, now time.Time) bool {
	for _, d := range p.marks(c) {
		if !now.Before(before(c.NotAfter, d)) {
			return true
		}
	}
	return false
}

// DaysLeft is how many whole days are left, none once it has ended.
func DaysLeft(notAfter, now time.Time) int { return int(max(notAfter.Sub(now), 0) / day) }
