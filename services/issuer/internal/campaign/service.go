package campaign

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Viewer is who looks at campaigns: whoever is limited to some certificates sees their own campaigns.
type Viewer struct {
	// Own is who made the campaigns that are seen; empty is anybody.
	Own string
}

// ViewerOf returns what a principal may see.
func ViewerOf(p authn.Principal) Viewer {
	if p.Scope.Unlimited() {
		return Viewer{}
	}
	return Viewer{Own: p.ID}
}

// Store keeps campaigns.
type Store interface {
	// AuthorityKeyOf finds the key of the CA certificate with a fingerprint among those that have signed. It is Invalid if
	// none has.
	AuthorityKeyOf(ctx context.Context, fingerprint string) (string, error)
	// Selected hands over the certificates that a selection has within a scope, with something in place of each request. It is Unavailable while it is not known of
	// all versions which key has signed them, and that is asked for.
	Selected(ctx context.Context, scope authn.Scope, s Selection, at time.Time, limit int, each func(*Chosen) error) error
	// Costs says what is known of issuers, by their ids: their budgets, how long their latest certificates took,
	// and which key they sign with.
	Costs(ctx context.Context, issuerIDs []string) (map[string]Cost, error)
	// ProfileUsable reports whether there is such a profile, and whether it takes on certificates.
	ProfileUsable(ctx context.Context, id string) (bool, error)
	// CreateCampaign stores a campaign with its items, as they are chosen at this moment, and returns it with its counts.
	// Those of first make up the canary, if there are any; it is Invalid if one of them is not chosen.
	CreateCampaign(ctx context.Context, c Campaign, first []string) (Campaign, error)
	// ChangeCampaign changes a campaign as is decided while it is held, and tells of it. It is NotFound if there is none that
	// the viewer may see.
	ChangeCampaign(ctx context.Context, v Viewer, id string, decide func(*Campaign) (Change, error)) (Campaign, error)
	// Open returns the ids of campaigns that have something to do, or something under way, and which are rehearsals.
	Open(ctx context.Context) (ids []string, rehearsals map[string]bool, err error)
	// Destinations returns the issuers that a campaign's items are to be issued by.
	Destinations(ctx context.Context, id string) ([]string, error)
	// Step holds a campaign, notes what has ended, and stores what work makes of it, all at once. It returns false if it has
	// ended meanwhile, or another has it.
	Step(ctx context.Context, id string, now time.Time, work func(ctx context.Context, s *Step) error) (bool, error)
}

// Certificates decides whether and how certificates are re-issued.
type Certificates interface {
	MayRenew(ctx context.Context, c *issuance.Certificate, first issuance.Target) error
	BeginReissue(ctx context.Context, o issuance.Origin, c *issuance.Certificate, first issuance.Target, csr string) (issuance.Start, error)
	Rehearse(ctx context.Context, c *issuance.Certificate, targets []issuance.Target, csr string) error
	CheckIssuer(ctx context.Context, id string) error
}

// Service has the use cases. It is safe for concurrent use.
type Service struct {
	store        Store
	certificates Certificates
	try          func(ctx context.Context, issuerID string) error
	clock        clock.Clock
	log          *slog.Logger
	wake         func()
	underWay     atomic.Bool

	mu sync.Mutex
	// tried has what came of trying the issuers of rehearsals, by campaign and issuer. Guarded by mu.
	tried map[string]map[string]error
}

// New returns a Service. It has issuers tried by try, which reaches their CAs and has nothing signed, and calls wake when
// there is work. That must not block.
func New(
	store Store, certificates Certificates, try func(ctx context.Context, issuerID string) error, c clock.Clock, log *slog.Logger, wake func(),
) *Service {
	return &Service{store: store, certificates: certificates, try: try, clock: c, log: log, wake: wake, tried: map[string]map[string]error{}}
}

// Request asks for a campaign.
type Request struct {
	Selection
	Settings
	// Canary is how many certificates the first wave has, nil for the default. CanaryIDs says which.
	Canary    *int
	CanaryIDs []string
	// Start has it begin at once.
	Start bool
}

// check refuses what can never be done, and completes the request.
func (s *Service) check(ctx context.Context, p authn.Principal, r *Request) error {
	if r.Selection == (Selection{}) {
		return invalid("selection", "asks for nothing, which would be every certificate; if you mean that, q: true says so")
	}
	if err := s.checkKey(ctx, &r.Selection); err != nil {
		return err
	}
	if r.InFlight == 0 {
		r.InFlight = defaultInFlight
	}
	if r.ServeWithin == 0 {
		r.ServeWithin = defaultServeWithin
	}
	if r.MaxFailures == nil && r.MaxFailurePercent == nil {
		percent := defaultFailurePercent
		r.MaxFailurePercent = &percent
	}
	if len(r.CanaryIDs) > 0 && r.Canary != nil && *r.Canary != len(r.CanaryIDs) {
		return invalid("canary.count", "is not the number of canary.ids; leave one of them out")
	}
	return s.checkDestination(ctx, p, r)
}

// checkKey finds out which key a CA certificate is of.
func (s *Service) checkKey(ctx context.Context, sel *Selection) error {
	if sel.CAFingerprint == "" {
		return nil
	}
	key, err := s.store.AuthorityKeyOf(ctx, sel.CAFingerprint)
	if err != nil {
		return err
	}
	if sel.AuthorityKeyID != "" && sel.AuthorityKeyID != key {
		return invalid("selection.authority_key_id", "is not the key of the certificate that ca_fingerprint_sha256 names; leave one of them out")
	}
	sel.AuthorityKeyID = key
	return nil
}

// checkDestination refuses an issuer or a profile that the certificates cannot have.
func (s *Service) checkDestination(ctx context.Context, p authn.Principal, r *Request) error {
	var into authn.Scope
	if r.ToIssuerID != nil {
		into.Issuers = []string{*r.ToIssuerID}
	}
	if r.ToProfileID != nil {
		into.Profiles = []string{*r.ToProfileID}
	}
	if !p.Can(into) {
		return fault.New(fault.Forbidden, "your scope does not hold the issuer or the profile that the certificates are to have")
	}
	if r.ToIssuerID != nil {
		if err := s.certificates.CheckIssuer(ctx, *r.ToIssuerID); err != nil {
			if f := fault.From(err); f.Code == fault.Invalid && len(f.Fields) == 1 {
				return invalid("to_issuer_id", f.Fields[0].Reason)
			}
			return err
		}
	}
	if r.ToProfileID == nil || *r.ToProfileID == "" {
		return nil
	}
	usable, err := s.store.ProfileUsable(ctx, *r.ToProfileID)
	if err == nil && !usable {
		err = invalid("to_profile_id", "there is no profile "+*r.ToProfileID+" that is enabled")
	}
	return err
}

func invalid(field, reason string) error {
	return fault.InvalidFields(fault.Field{Name: field, Reason: reason})
}

// TooMany refuses a selection that admits more than a campaign can have.
func TooMany() error {
	return invalid("selection", "admits more than 500,000 certificates; narrow it down")
}

// Plan says what a campaign would do, and does nothing.
func (s *Service) Plan(ctx context.Context, p authn.Principal, r Request) (*Plan, error) {
	if err := s.check(ctx, p, &r); err != nil {
		return nil, err
	}
	return s.plan(ctx, p, &r)
}

func (s *Service) plan(ctx context.Context, p authn.Principal, r *Request) (*Plan, error) {
	plan := newPlan()
	canary := map[string]string{}
	for _, id := range r.CanaryIDs {
		canary[id] = "it is not chosen"
	}
	err := s.store.Selected(ctx, p.Scope, r.Selection, s.clock.Now(), MaxChosen+1, func(c *Chosen) error {
		after := r.moved(c.Certificate)
		may := s.certificates.MayRenew(ctx, &after, issuance.FirstOf(c.Targets))
		if code := fault.CodeOf(may); code == fault.Unavailable || code == fault.Internal {
			return may
		}
		kind, reason := refusal(&r.Settings, c, may)
		plan.add(&r.Settings, c, kind, reason)
		if _, named := canary[c.ID]; named {
			canary[c.ID] = reason
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if plan.Total > MaxChosen {
		return nil, TooMany()
	}
	if r.WaveSize > 0 && plan.inWaves()/r.WaveSize >= MaxWaves {
		return nil, invalid("wave_size", "makes more than 1,000 waves; make them larger")
	}
	if err := s.cost(ctx, plan); err != nil {
		return nil, err
	}
	plan.estimate(&r.Settings, r.canary(plan.inWaves()))
	for id, reason := range canary {
		if reason != "" {
			plan.Warnings = append(plan.Warnings, "canary.ids: "+id+" cannot be in the canary: "+reason)
		}
	}
	for of, c := range plan.Costs {
		if c.Away != "" {
			plan.Warnings = append(plan.Warnings, "issuer "+of+" "+c.Away+": until that is mended, what it is to sign waits")
		}
		if r.AuthorityKeyID != "" && c.CAKeyID == r.AuthorityKeyID {
			plan.Warnings = append(plan.Warnings, "issuer "+of+" signs with the very key that is to go: give it another, or move its certificates with to_issuer_id")
		}
	}
	slices.Sort(plan.Warnings)
	if r.KeyAlgorithm != "" && r.ReuseCSR {
		plan.Warnings = append(plan.Warnings, "reuse_csr has the same keys certified again: certificates whose requester holds the key keep their "+r.KeyAlgorithm+" keys")
	}
	return plan, nil
}

// cost fills in what is known of the issuers that are asked.
func (s *Service) cost(ctx context.Context, plan *Plan) error {
	ids := make([]string, 0, len(plan.Costs))
	for of := range plan.Costs {
		ids = append(ids, of)
	}
	known, err := s.store.Costs(ctx, ids)
	if err != nil {
		return err
	}
	for of, c := range known {
		if cost := plan.Costs[of]; cost != nil {
			cost.Budget, cost.Took, cost.CAKeyID, cost.Away = c.Budget, c.Took, c.CAKeyID, c.Away
		}
	}
	return nil
}

func (r *Request) canary(chosen int) int {
	switch {
	case len(r.CanaryIDs) > 0:
		return len(r.CanaryIDs)
	case r.Canary != nil:
		return *r.Canary
	default:
		return canaryOf(chosen)
	}
}

// Create makes a campaign, which is begun if that is asked for.
func (s *Service) Create(ctx context.Context, p authn.Principal, o issuance.Origin, r Request) (Campaign, error) {
	if err := s.check(ctx, p, &r); err != nil {
		return Campaign{}, err
	}
	plan, err := s.plan(ctx, p, &r)
	if err != nil {
		return Campaign{}, err
	}
	c, err := s.store.CreateCampaign(ctx, Campaign{
		ID: id.New(idPrefix), Status: Planned, Selection: r.Selection, Settings: r.Settings, Canary: r.canary(plan.inWaves()), Plan: *plan,
		Scope: p.Scope, Origin: o, CreatedAt: s.clock.Now(),
	}, r.CanaryIDs)
	if err != nil || !r.Start {
		return c, err
	}
	return s.Start(ctx, p, o, c.ID)
}
