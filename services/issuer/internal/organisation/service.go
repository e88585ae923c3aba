package organisation

import (
	"context"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/record"
)

// Store keeps teams and owners, and tells a fact in the transaction of the change. What is handed a record by it
// decides while that record is locked, and may be asked again.
type Store interface {
	// AddTeam is a Conflict if the id is taken.
	AddTeam(ctx context.Context, t Team, f issuance.Fact) error
	// ChangeTeam is NotFound if there is no such team within the scope. Nothing is written if there is no fact.
	ChangeTeam(ctx context.Context, scope authn.Scope, id string, decide func(Team) (Team, *issuance.Fact, error)) (Team, error)
	// RemoveTeam is NotFound if there is no such team within the scope.
	RemoveTeam(ctx context.Context, scope authn.Scope, id string, decide func(Team, []record.Uses) (issuance.Fact, error)) error

	// AddOwner is a Conflict if the id is taken, Invalid if there is no such team.
	AddOwner(ctx context.Context, o Owner, f issuance.Fact) error
	// ChangeOwner is NotFound if there is no such owner within the scope, Invalid if there is no such team.
	ChangeOwner(ctx context.Context, scope authn.Scope, id string, decide func(Owner) (Owner, *issuance.Fact, error)) (Owner, error)
	// RemoveOwner is NotFound if there is no such owner within the scope.
	RemoveOwner(ctx context.Context, scope authn.Scope, id string, decide func(Owner, []record.Uses) (issuance.Fact, error)) error
}

// Seen refuses a change of a revision other than the one that its sender has seen.
type Seen func(revision int64) error

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	store Store
	clock clock.Clock
}

// New returns a Service.
func New(store Store, c clock.Clock) *Service { return &Service{store: store, clock: c} }

func (s *Service) fact(e event.Event, o issuance.Origin) issuance.Fact {
	return issuance.Fact{Event: e, Origin: o, At: s.clock.Now()}
}

// AddTeam adds a team. An empty id is made.
func (s *Service) AddTeam(ctx context.Context, p authn.Principal, o issuance.Origin, id string, u TeamUpdate) (Team, error) {
	t, err := newTeam(id, u, s.clock.Now())
	if err != nil {
		return Team{}, err
	}
	if err := mayChange(p, t.ID); err != nil {
		return Team{}, err
	}
	return t, s.store.AddTeam(ctx, t, s.fact(t.changed(event.Created, record.Changes(nil, t.fields())), o))
}

// ChangeTeam merges an update into a team.
func (s *Service) ChangeTeam(ctx context.Context, p authn.Principal, o issuance.Origin, id string, u TeamUpdate, seen Seen) (Team, error) {
	return s.store.ChangeTeam(ctx, p.Scope, id, func(before Team) (Team, *issuance.Fact, error) {
		if err := mayChange(p, id); err != nil {
			return Team{}, nil, err
		}
		if err := seen(before.Revision); err != nil {
			return Team{}, nil, err
		}
		after, err := before.with(u, s.clock.Now())
		if err != nil {
			return Team{}, nil, err
		}
		changes := record.Changes(before.fields(), after.fields())
		if len(changes) == 0 {
			return before, nil, nil
		}
		after.Revision++
		f := s.fact(after.changed(event.Updated, changes), o)
		return after, &f, nil
	})
}

// RemoveTeam removes a team that nothing refers to.
func (s *Service) RemoveTeam(ctx context.Context, p authn.Principal, o issuance.Origin, id string) error {
	return s.store.RemoveTeam(ctx, p.Scope, id, func(t Team, uses []record.Uses) (issuance.Fact, error) {
		if err := mayChange(p, id); err != nil {
			return issuance.Fact{}, err
		}
		if id == DefaultTeam {
			return issuance.Fact{}, fault.New(fault.Conflict, "team %s stays: owners and certificates that name no team belong to it", id)
		}
		if err := record.InUse("team", id, uses...); err != nil {
			return issuance.Fact{}, err
		}
		return s.fact(t.changed(event.Deleted, record.Changes(t.fields(), nil)), o), nil
	})
}

// AddOwner adds an owner. An empty id is made.
func (s *Service) AddOwner(ctx context.Context, p authn.Principal, o issuance.Origin, id string, u OwnerUpdate) (Owner, error) {
	owner, err := newOwner(id, u, s.clock.Now())
	if err != nil {
		return Owner{}, err
	}
	if err := mayChange(p, owner.TeamID); err != nil {
		return Owner{}, err
	}
	return owner, s.store.AddOwner(ctx, owner, s.fact(owner.changed(event.Created, record.Changes(nil, owner.fields())), o))
}

// ChangeOwner merges an update into an owner. Whoever moves one between teams has to be allowed in both.
func (s *Service) ChangeOwner(ctx context.Context, p authn.Principal, o issuance.Origin, id string, u OwnerUpdate, seen Seen) (Owner, error) {
	return s.store.ChangeOwner(ctx, p.Scope, id, func(before Owner) (Owner, *issuance.Fact, error) {
		if err := seen(before.Revision); err != nil {
			return Owner{}, nil, err
		}
		after, err := before.with(u, s.clock.Now())
		if err != nil {
			return Owner{}, nil, err
		}
		if err := mayChange(p, before.TeamID, after.TeamID); err != nil {
			return Owner{}, nil, err
		}
		changes := record.Changes(before.fields(), after.fields())
		if len(changes) == 0 {
			return before, nil, nil
		}
		after.Revision++
		f := s.fact(after.changed(event.Updated, changes), o)
		return after, &f, nil
	})
}

// RemoveOwner removes an owner that no certificate refers to.
func (s *Service) RemoveOwner(ctx context.Context, p authn.Principal, o issuance.Origin, id string) error {
	return s.store.RemoveOwner(ctx, p.Scope, id, func(owner Owner, uses []record.Uses) (issuance.Fact, error) {
		if err := mayChange(p, owner.TeamID); err != nil {
			return issuance.Fact{}, err
		}
		if id == DefaultOwner {
			return issuance.Fact{}, fault.New(fault.Conflict, "owner %s stays: certificates that name no owner belong to it", id)
		}
		if err := record.InUse("owner", id, uses...); err != nil {
			return issuance.Fact{}, err
		}
		return s.fact(owner.changed(event.Deleted, record.Changes(owner.fields(), nil)), o), nil
	})
}
