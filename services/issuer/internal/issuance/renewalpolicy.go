package issuance

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/issuer/internal/record"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
	"github.com/certctl/certctl/services/issuer/internal/rulebook"
)

const renewalPolicyPrefix = "rp-"

// RenewalPolicies keeps renewal policies.
type RenewalPolicies interface {
	// RenewalPolicy returns a policy, else NotFound.
	RenewalPolicy(ctx context.Context, id string) (renewal.Policy, error)
	// CreateRenewalPolicy stores a new policy. It is a Conflict if its id is taken.
	CreateRenewalPolicy(ctx context.Context, p renewal.Policy, f Fact) error
	// UpdateRenewalPolicy stores a policy over the revision before its own. It is a Precondition if that is not the newest.
	UpdateRenewalPolicy(ctx context.Context, p renewal.Policy, f Fact) error
	// DeleteRenewalPolicy deletes a policy that no certificate uses, or says in a Conflict which do.
	DeleteRenewalPolicy(ctx context.Context, p renewal.Policy, f Fact) error
}

// PolicyDesk is where renewal policies are set up.
type PolicyDesk struct {
	Store RenewalPolicies
	Now   func() time.Time
	// Rules are told of what has changed before that is answered.
	Rules *rulebook.Cache
}

// mayConfigure refuses principals with a limited scope: a policy holds for the certificates of all.
func mayConfigure(p authn.Principal) error {
	if p.Scope.Unlimited() {
		return nil
	}
	return fault.New(fault.Forbidden, "renewal policies hold for the certificates of everybody, so a key whose scope is limited may not change them")
}

// Create stores a new policy under its id, or a new one.
func (d PolicyDesk) Create(ctx context.Context, who authn.Principal, o Origin, p renewal.Policy) (renewal.Policy, error) {
	if err := mayConfigure(who); err != nil {
		return p, err
	}
	bad := checkPolicy(&p)
	if p.ID == "" {
		p.ID = id.New(renewalPolicyPrefix)
	} else if !id.Valid(p.ID) {
		bad = append(bad, fault.Field{Name: "id", Reason: "must be 1 to 64 of a-z, 0-9, - and _, beginning with a letter or a digit"})
	}
	if len(bad) > 0 {
		return p, fault.InvalidFields(bad...)
	}
	p.CreatedAt = d.Now()
	p.UpdatedAt, p.Revision = p.CreatedAt, 1
	defer d.Rules.Forget()
	return p, d.Store.CreateRenewalPolicy(ctx, p, d.fact(event.Created, nil, &p, o))
}

// Update changes a policy. The change is told the policy as it is, and refuses if that is not what its sender has seen.
func (d PolicyDesk) Update(
	ctx context.Context, who authn.Principal, o Origin, policyID string, change func(*renewal.Policy) error,
) (renewal.Policy, error) {
	before, err := d.Store.RenewalPolicy(ctx, policyID)
	if err != nil {
		return before, err
	}
	if err := mayConfigure(who); err != nil {
		return before, err
	}
	p := before
	p.ThresholdDays = append([]int(nil), before.ThresholdDays...)
	if err := change(&p); err != nil {
		return before, err
	}
	if bad := checkPolicy(&p); len(bad) > 0 {
		return before, fault.InvalidFields(bad...)
	}
	p.UpdatedAt = d.Now()
	f := d.fact(event.Updated, &before, &p, o)
	if len(f.Event.(event.RenewalPolicyChanged).Changes) == 0 {
		return before, nil
	}
	p.Revision++
	defer d.Rules.Forget()
	return p, d.Store.UpdateRenewalPolicy(ctx, p, f)
}

// Delete deletes a policy. The default cannot be.
func (d PolicyDesk) Delete(ctx context.Context, who authn.Principal, o Origin, policyID string) error {
	p, err := d.Store.RenewalPolicy(ctx, policyID)
	if err != nil {
		return err
	}
	if err := mayConfigure(who); err != nil {
		return err
	}
	if p.ID == renewal.Default {
		return fault.New(fault.Conflict, "%s holds for all certificates that no other policy covers, so it cannot be deleted; change it instead", p.ID)
	}
	defer d.Rules.Forget()
	return d.Store.DeleteRenewalPolicy(ctx, p, d.fact(event.Deleted, &p, nil, o))
}

func checkPolicy(p *renewal.Policy) []fault.Field {
	p.Name = strings.TrimSpace(p.Name)
	bad := p.Check()
	if !Printable(p.Name) {
		bad = append(bad, fault.Field{Name: "name", Reason: "holds control characters"})
	}
	if p.AgentGroupID != "" && !id.Valid(p.AgentGroupID) {
		bad = append(bad, fault.Field{Name: "agent_group_id", Reason: "is no valid id"})
	}
	if slices.ContainsFunc(p.Fallbacks, func(issuer string) bool { return !id.Valid(issuer) }) {
		bad = append(bad, fault.Field{Name: "fallback_issuer_ids", Reason: "holds what is no valid id"})
	}
	return bad
}

func (d PolicyDesk) fact(verb string, before, after *renewal.Policy, o Origin) Fact {
	of := after
	if of == nil {
		of = before
	}
	changes := record.Changes(policyFields(before), policyFields(after))
	return Fact{
		Event:  event.RenewalPolicyChanged{Record: event.Record{ID: of.ID, Name: of.Name, Verb: verb, Changes: changes}},
		Origin: o, At: d.Now(),
	}
}

// policyFields are what people set of a policy, by the names of the API.
func policyFields(p *renewal.Policy) record.Fields {
	if p == nil {
		return nil
	}
	type window struct {
		Weekdays []string `json:"weekdays"`
		Start    string   `json:"start"`
		End      string   `json:"end"`
		TimeZone string   `json:"time_zone"`
	}
	windows := make([]window, len(p.Windows))
	for i, w := range p.Windows {
		windows[i].Weekdays, windows[i].Start, windows[i].End, windows[i].TimeZone = w.Names()
	}
	return record.Fields{
		"name": p.Name, "auto_renew": p.AutoRenew, "renewal_window_days": p.WindowDays, "renewal_window_percent": p.WindowPercent,
		"max_retries": p.MaxRetries, "retry_interval_seconds": int(p.RetryInterval / time.Second),
		"retry_max_interval_seconds": int(p.RetryMaxInterval / time.Second), "retry_jitter_percent": p.RetryJitterPercent,
		"alert_thresholds_days": append([]int{}, p.ThresholdDays...), "approval_required": p.ApprovalRequired,
		"approval_expires_after_hours": int(p.ApprovalExpiresAfter / time.Hour), "maintenance_windows": windows,
		"agent_group_id": p.AgentGroupID, "fallback_issuer_ids": append([]string{}, p.Fallbacks...),
		"fallback_after_minutes": int(p.FallbackAfter / time.Minute),
	}
}
