package issuance

import (
	"context"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
	"github.com/certctl/certctl/services/issuer/internal/rulebook"
)

// policyOf returns the renewal policy that is in force for a certificate that refers to one of that id. The error is
// Invalid if there is none.
func (s *Service) policyOf(ctx context.Context, id string, targets []Target) (renewal.Policy, error) {
	p, err := s.renewalPolicy(ctx, id)
	if fault.CodeOf(err) == fault.NotFound {
		return p, fault.InvalidFields(fault.Field{Name: "renewal_policy_id", Reason: "unknown renewal policy " + id})
	}
	if err != nil {
		return p, err
	}
	covered, err := s.covers(ctx, &p, targets)
	if err != nil || covered {
		return p, err
	}
	return s.renewalPolicy(ctx, renewal.Default)
}

// renewalPolicy returns a renewal policy, else NotFound.
func (s *Service) renewalPolicy(ctx context.Context, id string) (renewal.Policy, error) {
	for _, read := range [...]func(context.Context) (*rulebook.Book, error){s.rules.Book, s.rules.Newest} {
		book, err := read(ctx)
		if err != nil {
			return renewal.Policy{}, err
		}
		if p, ok := book.RenewalPolicies[id]; ok {
			return p, nil
		}
	}
	return renewal.Policy{}, fault.New(fault.NotFound, "there is no renewal policy %s", id)
}

// covers reports whether a policy holds for a certificate with these targets: a policy with a group holds where the
// agent of the first target is in it.
func (s *Service) covers(ctx context.Context, p *renewal.Policy, targets []Target) (bool, error) {
	if p.AgentGroupID == "" {
		return true, nil
	}
	if len(targets) == 0 {
		return false, nil
	}
	agent := targets[0].AgentID
	if agent == "" {
		// Not everybody who knows the targets of a certificate knows their agents.
		known, err := s.store.Targets(ctx, []string{targets[0].ID})
		if err != nil {
			return false, err
		}
		agent = known[0].AgentID
	}
	if agent == "" {
		return false, nil
	}
	return s.targets.InGroup(ctx, agent, p.AgentGroupID)
}

// under has a new job go by a policy.
func (w *Work) under(p *renewal.Policy) {
	w.PolicyID, w.MaxAttempts, w.Retry = p.ID, p.Attempts(), p.Retry()
	if p.ApprovalRequired {
		w.approval = p.ApprovalExpiresAfter
	}
}
