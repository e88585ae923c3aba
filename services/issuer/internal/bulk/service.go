package bulk

import (
	"context"
	"log/slog"
	"slices"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Store keeps operations.
type Store interface {
	// Chosen hands over the certificates that a selection has within a scope, in the order of their ids.
	Chosen(ctx context.Context, scope authn.Scope, s Selection, limit int, each func(*Chosen) error) error
	// CreateBulk stores an operation with its items, as they are chosen at this moment, and returns it with its counts. It
	// is Invalid if there are more than limit.
	CreateBulk(ctx context.Context, o Operation, s Selection, limit int) (Operation, error)
	// Known reports which of a destination's owner and team there are; what is nil is known.
	Known(ctx context.Context, to Destination) (owner, team bool, err error)
	// NextBatch takes the operation that has waited longest, and stores what work makes of its next items in one
	// transaction. It returns false if nothing is to be done, or others do it.
	NextBatch(ctx context.Context, limit int, work func(ctx context.Context, b *Batch) error) (bool, error)
	// EndBulk ends an operation that has not ended: items without an outcome are Cancelled. It is a Conflict if it has
	// ended, and NotFound if there is none that the viewer may see.
	EndBulk(ctx context.Context, v Viewer, id string, as Status, reason string) (Operation, error)
}

// Viewer is who looks at operations: whoever is limited to some certificates sees their own operations.
type Viewer struct {
	// Own is who asked for the operations that are seen; empty is anybody.
	Own string
}

// ViewerOf returns what a principal may see.
func ViewerOf(p authn.Principal) Viewer {
	if p.Scope.Unlimited() {
		return Viewer{}
	}
	return Viewer{Own: p.ID}
}

// Certificates decides whether and how renewals begin.
type Certificates interface {
	MayRenew(ctx context.Context, c *issuance.Certificate, first issuance.Target) error
	BeginRenewal(ctx context.Context, o issuance.Origin, c *issuance.Certificate, first issuance.Target) (issuance.Start, error)
}

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	store        Store
	certificates Certificates
	clock        clock.Clock
	log          *slog.Logger
	wake         func()
}

// New returns a Service, which calls wake when there is work. That must not block.
func New(store Store, certificates Certificates, c clock.Clock, log *slog.Logger, wake func()) *Service {
	return &Service{store: store, certificates: certificates, clock: c, log: log, wake: wake}
}

// Request asks for an operation.
type Request struct {
	Action    Action
	To        Destination
	Selection Selection
}

// check refuses what can never be done.
func (s *Service) check(ctx context.Context, p authn.Principal, r *Request) error {
	if (r.Selection.Filter == nil) == (len(r.Selection.IDs) == 0) {
		return fault.InvalidFields(fault.Field{Name: "ids", Reason: "give either ids or a filter"})
	}
	if len(r.Selection.IDs) > MaxIDs {
		return fault.InvalidFields(fault.Field{Name: "ids", Reason: "has more than 10,000 ids; use a filter"})
	}
	// In one order for all, so that batches that run side by side lock rows in the same order; and each once.
	r.Selection.IDs = slices.Compact(slices.Sorted(slices.Values(r.Selection.IDs)))
	for _, one := range r.Selection.IDs {
		if !id.Valid(one) {
			return fault.InvalidFields(fault.Field{Name: "ids", Reason: "holds what is no id"})
		}
	}
	if r.Action != Reassign {
		return nil
	}
	if r.To.OwnerID == nil && r.To.TeamID == nil && r.To.Environment == nil {
		return fault.InvalidFields(fault.Field{Name: "owner_id", Reason: "give owner_id, team_id or environment"})
	}
	var into authn.Scope
	if r.To.TeamID != nil {
		into.Teams = []string{*r.To.TeamID}
	}
	if r.To.Environment != nil {
		into.Environments = []string{*r.To.Environment}
	}
	if !p.Can(into) {
		return fault.New(fault.Forbidden, "your scope does not hold the team or the environment that the certificates are to have")
	}
	owner, team, err := s.store.Known(ctx, r.To)
	switch {
	case err != nil:
		return err
	case !owner:
		return fault.InvalidFields(fault.Field{Name: "owner_id", Reason: "unknown owner " + *r.To.OwnerID})
	case !team:
		return fault.InvalidFields(fault.Field{Name: "team_id", Reason: "unknown team " + *r.To.TeamID})
	default:
		return nil
	}
}

// Plan says what an operation would do, and does nothing.
func (s *Service) Plan(ctx context.Context, p authn.Principal, r Request) (*Plan, error) {
	if err := s.check(ctx, p, &r); err != nil {
		return nil, err
	}
	plan := newPlan(r.Action)
	seen := map[string]bool{}
	err := s.store.Chosen(ctx, p.Scope, r.Selection, MaxChosen+1, func(c *Chosen) error {
		if r.Selection.Filter == nil {
			seen[c.ID] = true
		}
		err := refusal(r.Action, c)
		if r.Action == Renew {
			err = s.certificates.MayRenew(ctx, &c.Certificate, c.First)
		}
		switch fault.CodeOf(err) {
		case "":
			plan.change(c)
		case fault.Unavailable, fault.Internal:
			return err
		default:
			plan.refuse(c.ID, fault.From(err).Message)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if plan.Total > MaxChosen {
		return nil, TooMany()
	}
	for _, one := range r.Selection.IDs {
		if !seen[one] {
			plan.refuse(one, absent(one))
		}
	}
	return plan, nil
}

// TooMany refuses a filter that admits more than can be worked on at once.
func TooMany() error {
	return fault.InvalidFields(fault.Field{Name: "filter", Reason: "admits more than 100,000 certificates; narrow it down"})
}

// Start makes an operation, which is then worked on.
func (s *Service) Start(ctx context.Context, p authn.Principal, o issuance.Origin, r Request) (Operation, error) {
	if err := s.check(ctx, p, &r); err != nil {
		return Operation{}, err
	}
	made, err := s.store.CreateBulk(ctx, Operation{
		ID: id.New(idPrefix), Action: r.Action, Status: Pending, To: r.To, Filter: r.Selection.Shown,
		Scope: p.Scope, Origin: o, CreatedAt: s.clock.Now(),
	}, r.Selection, MaxChosen)
	if err == nil {
		s.wake()
	}
	return made, err
}

// Cancel stops an operation. What is done stays done.
func (s *Service) Cancel(ctx context.Context, p authn.Principal, operationID string) (Operation, error) {
	return s.store.EndBulk(ctx, ViewerOf(p), operationID, Cancelled, "")
}
