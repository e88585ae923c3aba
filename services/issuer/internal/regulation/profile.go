package regulation

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/profile"
)

const profilePrefix = "prof-"

// CreateProfile sets up a profile.
func (s *Service) CreateProfile(ctx context.Context, p authn.Principal, o issuance.Origin, spec profile.Spec) (*profile.Profile, error) {
	if spec.ID == "" {
		spec.ID = id.New(profilePrefix)
	}
	made, err := spec.Profile()
	if err != nil {
		return nil, err
	}
	if err := mayChangeProfile(p, made.ID); err != nil {
		return nil, err
	}
	made.CreatedAt = s.clock.Now()
	made.UpdatedAt = made.CreatedAt
	f := profileFact(made.UpdatedAt, o, made, event.Created, diff(nil, profileFields(made)))
	if err := s.store.AddProfile(ctx, made, f); err != nil {
		return nil, err
	}
	s.rules.Forget()
	return made, nil
}

// UpdateProfile changes a profile: change is given it as it is, and leaves alone what is to stay.
func (s *Service) UpdateProfile(ctx context.Context, p authn.Principal, o issuance.Origin, id string, match Match, change func(*profile.Spec)) (*profile.Profile, error) {
	for range updateTries {
		old, err := s.store.Profile(ctx, p.Scope, id)
		if err != nil {
			return nil, err
		}
		if err := mayChangeProfile(p, id); err != nil {
			return nil, err
		}
		if err := match(old.Revision); err != nil {
			return nil, err
		}
		spec := old.Spec
		change(&spec)
		made, err := spec.Profile()
		if err != nil {
			return nil, err
		}
		changes := diff(profileFields(old), profileFields(made))
		if len(changes) == 0 {
			return old, nil
		}
		made.CreatedAt, made.UpdatedAt = old.CreatedAt, s.clock.Now()
		written, err := s.store.ChangeProfile(ctx, made, old.Revision, profileFact(made.UpdatedAt, o, made, event.Updated, changes))
		if err != nil {
			return nil, err
		}
		if written {
			s.rules.Forget()
			return made, nil
		}
	}
	return nil, changedMeanwhile("profile " + id)
}

// DeleteProfile removes a profile that no certificate uses.
func (s *Service) DeleteProfile(ctx context.Context, p authn.Principal, o issuance.Origin, id string) error {
	old, err := s.store.Profile(ctx, p.Scope, id)
	if err != nil {
		return err
	}
	if err := mayChangeProfile(p, id); err != nil {
		return err
	}
	if err := s.store.RemoveProfile(ctx, id, profileFact(s.clock.Now(), o, old, event.Deleted, diff(profileFields(old), nil))); err != nil {
		return err
	}
	s.rules.Forget()
	return nil
}

func mayChangeProfile(p authn.Principal, id string) error {
	if err := aboveTeams(p, "profiles"); err != nil {
		return err
	}
	if !p.Can(authn.Scope{Profiles: []string{id}}) {
		return fault.New(fault.Forbidden, "your scope does not hold profile %q", id)
	}
	return nil
}

func profileFact(at time.Time, o issuance.Origin, p *profile.Profile, verb string, changes event.Changes) issuance.Fact {
	return issuance.Fact{Event: event.ProfileChanged{Record: record(p.ID, p.Name, verb, changes)}, Origin: o, At: at}
}

func profileFields(p *profile.Profile) fields {
	list := func(s []string) []string { return append([]string{}, s...) }
	return fields{
		"name": p.Name, "description": p.Description, "allowed_key_algorithms": p.Keys,
		"max_ttl_seconds": int64(p.MaxTTL.Seconds()), "allowed_ekus": p.EKUs, "required_san_patterns": list(p.RequiredSANs),
		"spiffe_uri_pattern": p.SPIFFE, "allow_short_lived": p.AllowShortLived, "enabled": p.Enabled,
		"lint_ruleset": p.LintRuleset, "lint_mode": p.LintMode, "lint_ignore": list(p.LintIgnore), "reuse_key": p.ReuseKey,
	}
}
