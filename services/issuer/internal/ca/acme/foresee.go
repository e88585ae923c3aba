package acme

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/lookup"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/preflight"
	"github.com/certctl/certctl/services/issuer/internal/setting"
)

// SettingPreflight is what becomes of what is found before an order is placed.
const SettingPreflight = "preflight"

// The values of [SettingPreflight]. In both of the first, what was found is said when an order has failed.
const (
	// Block places no order that is certain to fail. It is the default of issuers.
	Block = "block"
	// Warn places it in any case.
	Warn = "warn"
	// Off looks at nothing.
	Off = "off"
)

// lookPatienceAll is how long all names together may be looked at.
const lookPatienceAll = 15 * time.Second

// Foresight is how an Authority looks at names before it asks its CA. The zero value does not.
type Foresight struct {
	// Mode is Block, Warn or Off.
	Mode     string
	Resolver *lookup.Resolver
}

func foresight(r *setting.Reader, resolver *lookup.Resolver) Foresight {
	mode := r.Text(SettingPreflight)
	switch mode {
	case "":
		mode = Block
	case Block, Warn, Off:
	default:
		r.Bad(SettingPreflight, "must be "+Block+", "+Warn+" or "+Off)
	}
	return Foresight{mode, resolver}
}

// plan is what is to be looked at.
func (a *Authority) plan(s *session) preflight.Plan {
	p := preflight.Plan{
		Resolver: a.config.Foresight.Resolver, Method: a.config.Solver.Type(), Objection: a.config.Solver.Objection,
		Identities: s.core.GetDirectory().Meta.CaaIdentities, Account: s.account,
	}
	if zones, ok := a.config.Solver.(*Zones); ok {
		p.Place = zones.Place
	}
	return p
}

// foresee refuses an order that is certain to fail, before it counts against the CA's limits. One that has been placed
// already is gone on with.
func (a *Authority) foresee(ctx context.Context, s *session, r ca.Request) error {
	if a.config.Foresight.Mode != Block || r.Order != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookPatienceAll)
	defer cancel()
	p := a.plan(s)
	p.Deciding = true
	code, reasons := fault.Invalid, []string{}
	for _, f := range preflight.Look(ctx, p, r.Names) {
		if f.Verdict == ca.Forbids {
			reasons = append(reasons, f.Name+": "+f.Says)
			if f.Check == preflight.Zone {
				// Whether that can be mended without a new request is not known.
				code = fault.Unavailable
			}
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return &ca.Unproven{Err: fault.New(code, "the CA was not asked, for this is certain to fail: %s", strings.Join(reasons, "; "))}
}

// explained adds to what the CA says of names that it does not believe to be ours what can be seen from here.
func (a *Authority) explained(ctx context.Context, s *session, names x509x.Names, err error) error {
	if a.config.Foresight.Resolver == nil || a.config.Foresight.Mode == Off || !aboutNames(err) || ctx.Err() != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lookPatienceAll)
	defer cancel()
	var seen []string
	for _, f := range preflight.Look(ctx, a.plan(s), names) {
		if f.Verdict != ca.Allows {
			seen = append(seen, f.Name+": "+f.Says)
		}
	}
	if len(seen) == 0 {
		return err
	}
	told := *fault.From(coded(err))
	told.Message += "; seen from here: " + strings.Join(seen, "; ")
	return &ca.Unproven{Err: &told}
}

// disbelief are the problems that looking at the DNS may explain.
var disbelief = map[string]bool{"dns": true, "caa": true, "connection": true, "unauthorized": true, "incorrectResponse": true}

// aboutNames tells whether an error is about names, and says nothing about how well the CA is.
func aboutNames(err error) bool {
	if _, unproven := errors.AsType[*ca.Unproven](err); unproven {
		return true
	}
	p := problem(err)
	return p != nil && disbelief[strings.TrimPrefix(p.Type, namespace)]
}

// Preflight implements [ca.Preflighter].
func (a *Authority) Preflight(ctx context.Context, names x509x.Names) ([]ca.Finding, error) {
	if a.config.Foresight.Resolver == nil {
		return nil, fault.New(fault.Unavailable, "no resolver is set")
	}
	ctx, cancel := context.WithTimeout(ctx, lookPatienceAll)
	defer cancel()
	var findings []ca.Finding
	err := a.as(ctx, func(s *session) error {
		findings = preflight.Look(ctx, a.plan(s), names)
		return nil
	})
	return findings, err
}

// Test implements [ca.Tester]. The CA was reached when the issuer was opened.
func (a *Authority) Test(ctx context.Context) error {
	// An agent's host is known only once there is a certificate.
	if solver, ok := a.config.Solver.(interface {
		test(ctx context.Context) error
	}); ok {
		if err := solver.test(ctx); err != nil {
			return err
		}
	}
	return a.offersProfile(ctx)
}

// offersProfile finds out whether the CA has the profile that is asked of it. One that names none may know some.
func (a *Authority) offersProfile(ctx context.Context) error {
	if a.config.Profile == "" {
		return nil
	}
	s, err := a.connect(ctx)
	if err != nil {
		return coded(err)
	}
	defer s.close()
	offered := s.core.GetDirectory().Meta.Profiles
	if _, known := offered[a.config.Profile]; known || len(offered) == 0 {
		return nil
	}
	return fault.New(fault.Unavailable, "the ACME CA has no profile %s; it has %s", a.config.Profile, strings.Join(slices.Sorted(maps.Keys(offered)), ", "))
}
