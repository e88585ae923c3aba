package issuance

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// fallBack has a job's request signed by another issuer that its policy names, if the job has waited long enough for its
// own. The certificate stays with its issuer: the next renewal asks that one first.
func (s *Service) fallBack(ctx context.Context, w *Work, why string, now time.Time) (begun bool, err error) {
	p, err := s.renewalPolicy(ctx, w.PolicyID)
	if fault.CodeOf(err) == fault.NotFound {
		return false, nil
	}
	if err != nil || len(p.Fallbacks) == 0 || now.Sub(w.waitingSince(now)) < p.FallbackAfter {
		return false, err
	}
	other, authority, err := s.fallback(ctx, w, w.orderFirst(p.Fallbacks), why, now)
	if err != nil || other == nil {
		return false, err
	}
	return s.ask(ctx, other, authority), nil
}

// orderFirst is fallbacks in the order in which they are asked: one that has an order of the job is gone on with.
func (w *Work) orderFirst(fallbacks []string) []string {
	if len(w.Order) == 0 || !slices.Contains(fallbacks, w.OrderIssuerID) {
		return fallbacks
	}
	return append([]string{w.OrderIssuerID}, slices.DeleteFunc(slices.Clone(fallbacks), func(id string) bool { return id == w.OrderIssuerID })...)
}

// fallback takes a place with the first of some issuers that may be asked in place of a job's own, and returns the job as it
// is put to that one. It is nil if none may be.
func (s *Service) fallback(ctx context.Context, w *Work, ids []string, why string, now time.Time) (*Work, ca.Issuer, error) {
	for _, id := range ids {
		if id == w.IssuerID {
			continue
		}
		other := *w
		other.IssuerID, other.fallbackFor, other.fallbackWhy = id, w.IssuerID, why
		authority, err := s.admitFallback(ctx, &other, now)
		if err != nil {
			return nil, nil, err
		}
		if authority == nil {
			continue
		}
		s.log.WarnContext(ctx, "a fallback issuer is asked instead of the certificate's own", obs.KeyJob, w.ID,
			obs.KeyCertificate, w.CertificateID, obs.KeyIssuer, w.IssuerID, "fallback_issuer_id", id, "reason", why)
		return &other, authority, nil
	}
	return nil, nil, nil
}

// admitFallback returns the CA of a fallback if the policy rules allow it and it may be asked now, nil otherwise.
func (s *Service) admitFallback(ctx context.Context, other *Work, now time.Time) (ca.Issuer, error) {
	breaches, err := s.judge(ctx, other, other.Type.policyStage(), now)
	if err != nil || forbids(breaches) != nil {
		return nil, err
	}
	authority, err := s.issuers.Issuer(ctx, other.IssuerID)
	if err != nil {
		s.log.WarnContext(ctx, "a fallback issuer is not in service either", obs.KeyIssuer, other.IssuerID, obs.KeyError, err)
		return nil, nil
	}
	if !elsewhere(authority) {
		return authority, nil
	}
	a, err := s.store.Ask(ctx, other.IssuerID, []*Work{other}, now, now.Add(lease))
	if err != nil || a.Granted == 0 {
		return nil, err
	}
	return authority, nil
}

// askNextFallback puts a job that a fallback has not signed to those behind it, in this goroutine, and reports whether
// there was one.
func (s *Service) askNextFallback(ctx context.Context, w *Work, now time.Time) bool {
	p, err := s.renewalPolicy(ctx, w.PolicyID)
	if err != nil {
		return false
	}
	own := *w
	own.IssuerID, own.fallbackFor = w.fallbackFor, ""
	ids := w.orderFirst(p.Fallbacks)
	next, authority, err := s.fallback(ctx, &own, ids[slices.Index(ids, w.IssuerID)+1:], w.fallbackWhy, now)
	if err != nil || next == nil {
		return false
	}
	s.askNow(ctx, next, authority)
	return true
}

// failedToo reports whether a fallback has not signed what it was asked for, and is not about to.
func (w *Work) failedToo(err error) bool {
	_, pending := errors.AsType[*ca.Pending](err)
	return err != nil && !pending && w.fallbackFor != ""
}

// fallbackFailed is the change of a job that no fallback has signed, be it away or unwilling. That says nothing against the
// certificate's own issuer, which is asked next, and then the fallbacks once more: after as long as the job has waited, so
// at ever longer intervals.
func (s *Service) fallbackFailed(ctx context.Context, w *Work, err error, now time.Time) Change {
	s.log.WarnContext(ctx, "a fallback issuer has not signed", obs.KeyJob, w.ID, obs.KeyCertificate, w.CertificateID,
		obs.KeyIssuer, w.fallbackFor, "fallback_issuer_id", w.IssuerID, obs.KeyError, err)
	w.LastError = Clean(w.fallbackWhy + "; its fallback " + w.IssuerID + ": " + fault.From(err).Message)
	if now.Sub(w.CreatedAt) >= patience {
		return failure(w, "issuer "+w.fallbackFor+" has been away for too long: "+w.LastError, now, "")
	}
	w.Attempts = max(w.Attempts-1, 0)
	c := w.change(JobPending, now)
	c.WaitingSince, c.Asks = w.waitingSince(now), w.fallbackFor
	c.NextActionAt = now.Add(min(max(now.Sub(c.WaitingSince), w.Retry.Base), cmp.Or(w.Retry.Cap, longestWait)))
	c.Reason = "issuer " + w.fallbackFor + ": " + w.LastError + "; next attempt at " + c.NextActionAt.Format(time.RFC3339)
	return c
}
