package renewal

import "time"

const (
	// advisedBefore is how long before the end the latest renewal begins that a CA can ask for: long enough to try it again
	// the day after, twice.
	advisedBefore = 3 * day
	// advisedBeforePart is the part of a lifetime instead, if that is less.
	advisedBeforePart = 10
	// advisedAfter is how long a version is kept at the least, so that a CA whose advice is at fault does not have it
	// replaced over and over; advisedAfterPart is the part of a lifetime instead, if that is less.
	advisedAfter     = time.Hour
	advisedAfterPart = 24
)

// Advice is when a CA wants a certificate to be renewed (RFC 9773). The zero value is none.
type Advice struct {
	// Start and End bound the CA's window. At is the moment at which to renew, within it as far as that can be.
	Start, End, At time.Time
}

// Draw draws the moment at which to renew a certificate that was issued at one time and ends at another, evenly from the
// CA's window; chance is in [0, 1). One in the past is at once. It is never so late that nothing could be done if it
// failed, nor just after the issue.
func Draw(start, end, issuedAt, notAfter time.Time, chance float64) Advice {
	life := max(notAfter.Sub(issuedAt), 0)
	at := start.Add(time.Duration(chance * float64(end.Sub(start))))
	if latest := notAfter.Add(-min(advisedBefore, life/advisedBeforePart)); at.After(latest) {
		at = latest
	}
	at = later(at, issuedAt.Add(min(advisedAfter, life/advisedAfterPart)))
	return Advice{Start: start, End: end, At: at.Truncate(time.Second)}
}

// Same reports whether the CA's window is the one that the moment was drawn from.
func (a Advice) Same(start, end time.Time) bool { return a.Start.Equal(start) && a.End.Equal(end) }
