package issuance

import (
	"context"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// storePause spaces the tries to store what a CA has answered.
var storePause = retry.Policy{Base: 100 * time.Millisecond, Cap: 5 * time.Second, Jitter: 0.3}

const (
	// A job that waits for a place comes back when others may have ended, as far as that can be told.
	shortestWait = 200 * time.Millisecond
	longestWait  = 5 * time.Minute
	// usualAnswer is how long a CA takes of which nothing is known yet.
	usualAnswer = 2 * time.Second
)

// ordered is the change of a job whose CA has taken the order and not decided it.
func ordered(w *Work, p *ca.Pending, now time.Time) Change {
	again := p.Again
	if again <= 0 {
		again = orderPause
	}
	w.Attempts--
	c := w.change(JobPending, now)
	c.NextActionAt = now.Add(again)
	if w.fallbackFor != "" {
		// It is gone on with where it is, rather than ordered once more of the certificate's own issuer.
		c.Setbacks, c.WaitingSince = max(w.Setbacks, 1), w.waitingSince(now)
	}
	c.Reason = "issuer " + w.IssuerID + " has the order: " + Clean(p.Says) + "; asked again at " + c.NextActionAt.Format(time.RFC3339)
	return c
}

// released is the change of a job that goes on as soon as somebody takes it up.
func released(w *Work, now time.Time) Change {
	w.Attempts--
	c := w.change(JobPending, now)
	c.Setbacks, c.WaitingSince = w.Setbacks, w.WaitingSince
	c.NextActionAt, c.Reason = now, "waits for issuer "+w.IssuerID+" to sign its request"
	return c
}

// outage is the change of a job whose CA is away. It counts as no attempt, because it says nothing about the request:
// the job is tried again, at ever longer intervals, until the CA is back or patience ends.
func (s *Service) outage(ctx context.Context, w *Work, err error, now time.Time) Change {
	f := fault.From(err)
	s.log.WarnContext(ctx, "a CA is away", obs.KeyJob, w.ID, obs.KeyCertificate, w.CertificateID, obs.KeyIssuer, w.IssuerID, obs.KeyError, err)
	w.LastError = Clean(f.Message)
	if now.Sub(w.CreatedAt) >= patience {
		return failure(w, "issuer "+w.IssuerID+" has been away for too long: "+w.LastError, now, "")
	}
	w.Attempts = max(w.Attempts-1, 0)
	c := w.change(JobPending, now)
	c.Setbacks, c.WaitingSince = w.Setbacks+1, w.waitingSince(now)
	if f.RetryAfter == 0 {
		// It goes on as soon as the CA is back. What a CA has limited is left for as long as it says, however well it answers others.
		c.Asks = w.IssuerID
	}
	c.NextActionAt = s.fallbackOr(ctx, w, now.Add(max(w.Retry.Delay(c.Setbacks, s.settings.Chance), f.RetryAfter)), now)
	c.Reason = "issuer " + w.IssuerID + ": " + w.LastError + "; next attempt at " + c.NextActionAt.Format(time.RFC3339)
	if strings.HasPrefix(w.LastError, "issuer "+w.IssuerID+" ") {
		c.Reason = w.LastError + "; next attempt at " + c.NextActionAt.Format(time.RFC3339)
	}
	return c
}

// putBack is the change of a job whose CA is not to be asked now.
func (s *Service) putBack(ctx context.Context, w *Work, a Admitted, now time.Time) Change {
	c := w.change(JobPending, now)
	c.Setbacks, c.WaitingSince, c.Asks = w.Setbacks, w.waitingSince(now), w.IssuerID
	c.NextActionAt = a.Until
	if a.Until.IsZero() {
		c.NextActionAt = now.Add(s.turn(w.IssuerID, a))
	}
	c.NextActionAt = s.fallbackOr(ctx, w, c.NextActionAt, now)
	c.Reason = "issuer " + w.IssuerID + ": " + Clean(a.Why) + "; next attempt at " + c.NextActionAt.Format(time.RFC3339)
	return c
}

func (w *Work) waitingSince(now time.Time) time.Time {
	if w.WaitingSince.IsZero() {
		return now
	}
	return w.WaitingSince
}

// turn is when the turn may come of a job that waits for a place. Those that wait are spread over the time that it takes
// to serve them all, so that few come in vain.
func (s *Service) turn(issuerID string, a Admitted) time.Duration {
	all := float64(s.asking.usual(issuerID)) * float64(a.Waiting+1) / float64(max(a.MaxConcurrent, 1))
	return min(max(time.Duration(all*(0.2+0.8*s.settings.Chance())), shortestWait), longestWait)
}

// fallbackOr is when a job that waits for its CA is to be looked at: at a time, or before that when a fallback may be
// asked.
func (s *Service) fallbackOr(ctx context.Context, w *Work, at, now time.Time) time.Time {
	p, err := s.renewalPolicy(ctx, w.PolicyID)
	if err != nil || len(p.Fallbacks) == 0 {
		// What cannot be told now is looked at again in time.
		return at
	}
	if due := w.waitingSince(now).Add(p.FallbackAfter); due.After(now) && due.Before(at) {
		return due
	}
	return at
}
