package issuance

import (
	"context"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

// Submit hands in the signing request that a certificate waits for. It is a Conflict if it waits for none.
func (s *Service) Submit(ctx context.Context, p authn.Principal, o Origin, certificateID, csr string) (Triggered, error) {
	w, open, err := s.store.OpenJob(ctx, p.Scope, certificateID)
	if err != nil {
		return Triggered{}, err
	}
	switch {
	case !open:
		return Triggered{}, fault.New(fault.Conflict, "certificate %s waits for no signing request; renew it to make it wait for one", certificateID)
	case len(w.Targets) > 0:
		return Triggered{}, fault.New(fault.Conflict, "certificate %s has targets, so the agent of its target makes the key and the request", certificateID)
	case w.Status == JobAwaitingApproval:
		return Triggered{}, fault.New(fault.Conflict, "job %s of certificate %s waits for somebody to approve it", w.ID, certificateID)
	case w.Status != JobAwaitingCSR:
		return Triggered{}, fault.New(fault.Conflict, "certificate %s has had its signing request; job %s is %s", certificateID, w.ID, w.Status)
	}
	w.Origin = o
	now := s.clock.Now()
	warnings, err := s.permit(ctx, &w, w.Type.policyStage(), now)
	if err != nil {
		return Triggered{}, err
	}
	w.Attempts++
	c, err := s.handIn(ctx, &w, csr, now)
	if err != nil {
		return Triggered{}, asField(err)
	}
	c.Breaches = warnings
	applied, err := s.store.Apply(ctx, []Change{c})
	if err != nil {
		return Triggered{}, err
	}
	if !applied[w.ID] {
		return Triggered{}, fault.New(fault.Conflict, "job %s changed while the request was being signed; look at it again", w.ID)
	}
	return Triggered{JobID: w.ID, Version: c.Version}, nil
}
