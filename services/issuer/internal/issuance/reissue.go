package issuance

import (
	"context"
)

// BeginReissue decides how a certificate is re-issued. Where its key is its requester's, csr is signed again, which is the
// request of the version before; empty leaves it to the requester to hand one in. It stores nothing; what breaks a policy
// rule is in the start, also if the rule refuses it. First is the first target, if there is any.
func (s *Service) BeginReissue(ctx context.Context, o Origin, c *Certificate, first Target, csr string) (Start, error) {
	switch {
	case len(c.TargetIDs) > 0:
		csr = ""
	case s.settings.ServerKeys:
		// The request may be of a key that was made here and has gone since; a worker finds that out, and makes another.
		start, err := s.BeginRenewal(ctx, o, c, first)
		start.Job.CSRPEM = csr
		return start, err
	}
	return s.renew(ctx, o, c, c.reached(first), csr)
}

// FirstOf is the first of a certificate's targets, the zero value if there is none.
func FirstOf(targets []Target) (first Target) {
	if len(targets) > 0 {
		first = targets[0]
	}
	return first
}

// Rehearse says why a certificate would not be re-issued now, as far as can be told without having it signed: by its
// state, the policy rules, its profile, its targets, and the request, if one is to be used again. It puts nothing on record.
func (s *Service) Rehearse(ctx context.Context, c *Certificate, targets []Target, csr string) error {
	if err := s.MayRenew(ctx, c, FirstOf(targets)); err != nil {
		return err
	}
	if err := s.checkProfile(ctx, c, c.ProfileID); err != nil {
		return err
	}
	if err := checkReach(targets); err != nil || csr == "" {
		return err
	}
	w := c.work(Job{CertificateID: c.ID}, targets)
	_, _, _, err := s.examine(ctx, w.signing(csr))
	return err
}

// CheckIssuer refuses an issuer that certificates cannot be given: it is Invalid if that is unknown or switched off.
func (s *Service) CheckIssuer(ctx context.Context, id string) error {
	_, err := s.usable(ctx, id)
	return err
}
