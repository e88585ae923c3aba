package regulation

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/policy"
)

const rulePrefix = "pr-"

// CreateRule sets up a policy rule.
func (s *Service) CreateRule(ctx context.Context, p authn.Principal, o issuance.Origin, spec policy.Spec) (*policy.Rule, error) {
	made, err := Draft(spec)
	if err != nil {
		return nil, err
	}
	if err := mayChangeRules(p); err != nil {
		return nil, err
	}
	made.CreatedAt = s.clock.Now()
	made.UpdatedAt = made.CreatedAt
	if err := s.store.AddRule(ctx, made, ruleFact(made.UpdatedAt, o, made, event.Created, diff(nil, ruleFields(made)))); err != nil {
		return nil, err
	}
	s.rules.Forget()
	return made, nil
}

// Draft is a rule that is not stored. Its error is Invalid and names every field at fault.
func Draft(spec policy.Spec) (*policy.Rule, error) {
	if spec.ID == "" {
		spec.ID = id.New(rulePrefix)
	}
	return spec.Rule()
}

// UpdateRule changes a policy rule: change is given it as it is, and leaves alone what is to stay.
func (s *Service) UpdateRule(ctx context.Context, p authn.Principal, o issuance.Origin, id string, match Match, change func(*policy.Spec)) (*policy.Rule, error) {
	for range updateTries {
		old, err := s.store.PolicyRule(ctx, id)
		if err != nil {
			return nil, err
		}
		if err := mayChangeRules(p); err != nil {
			return nil, err
		}
		if err := match(old.Revision); err != nil {
			return nil, err
		}
		spec := old.Spec
		change(&spec)
		made, err := spec.Rule()
		if err != nil {
			return nil, err
		}
		changes := diff(ruleFields(old), ruleFields(made))
		if len(changes) == 0 {
			return old, nil
		}
		made.CreatedAt, made.UpdatedAt = old.CreatedAt, s.clock.Now()
		written, err := s.store.ChangeRule(ctx, made, old.Revision, ruleFact(made.UpdatedAt, o, made, event.Updated, changes))
		if err != nil {
			return nil, err
		}
		if written {
			s.rules.Forget()
			return made, nil
		}
	}
	return nil, changedMeanwhile("policy " + id)
}

// DeleteRule removes a policy rule and what is on record of it.
func (s *Service) DeleteRule(ctx context.Context, p authn.Principal, o issuance.Origin, id string) error {
	old, err := s.store.PolicyRule(ctx, id)
	if err != nil {
		return err
	}
	if err := mayChangeRules(p); err != nil {
		return err
	}
	if err := s.store.RemoveRule(ctx, id, ruleFact(s.clock.Now(), o, old, event.Deleted, diff(ruleFields(old), nil))); err != nil {
		return err
	}
	s.rules.Forget()
	return nil
}

func mayChangeRules(p authn.Principal) error {
	if p.Scope.Profiles != nil {
		return fault.New(fault.Forbidden, "policies hold for every profile; your scope is limited, so you may read and not change them")
	}
	return aboveTeams(p, "policies")
}

func ruleFact(at time.Time, o issuance.Origin, r *policy.Rule, verb string, changes event.Changes) issuance.Fact {
	return issuance.Fact{Event: event.PolicyChanged{Record: record(r.ID, r.Name, verb, changes)}, Origin: o, At: at}
}

func ruleFields(r *policy.Rule) fields {
	return fields{
		"name": r.Name, "type": string(r.Type), "severity": string(r.Severity), "config": r.Config,
		"agent_group_id": r.AgentGroupID, "enabled": r.Enabled,
	}
}
