package api

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// newPolicy is what a policy is as far as its creator does not say.
func newPolicy() renewal.Policy {
	return renewal.Policy{
		AutoRenew: true, WindowDays: 30, MaxRetries: 3, RetryInterval: 5 * time.Second, RetryMaxInterval: 10 * time.Minute,
		RetryJitterPercent: 30, ThresholdDays: []int{30, 14, 7, 0}, ApprovalExpiresAfter: 72 * time.Hour, FallbackAfter: time.Hour,
	}
}

// ListRenewalPolicies implements the operation of that name.
func (s *server) ListRenewalPolicies(ctx context.Context, r issuerapi.ListRenewalPoliciesRequestObject) (issuerapi.ListRenewalPoliciesResponseObject, error) {
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	group, err := filter("agent_group_id", r.Params.AgentGroupID)
	if err != nil {
		return nil, err
	}
	list, err := s.store.RenewalPolicies(ctx, group, at)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListRenewalPolicies200JSONResponse{
		Data: make([]issuerapi.RenewalPolicy, len(list.Rows)), Total: list.Total, Page: at.Number, PerPage: at.Size, NextCursor: next(list.Next),
	}
	for i := range list.Rows {
		out.Data[i] = renewalPolicy(&list.Rows[i])
	}
	return out, nil
}

// CreateRenewalPolicy implements the operation of that name.
func (s *server) CreateRenewalPolicy(ctx context.Context, r issuerapi.CreateRenewalPolicyRequestObject) (issuerapi.CreateRenewalPolicyResponseObject, error) {
	b := r.Body
	p := newPolicy()
	p.ID = value(b.ID)
	err := merge(&p, &issuerapi.RenewalPolicyUpdate{
		Name: &b.Name, AutoRenew: b.AutoRenew, RenewalWindowDays: b.RenewalWindowDays, RenewalWindowPercent: b.RenewalWindowPercent,
		MaxRetries: b.MaxRetries, RetryIntervalSeconds: b.RetryIntervalSeconds, RetryMaxIntervalSeconds: b.RetryMaxIntervalSeconds,
		RetryJitterPercent: b.RetryJitterPercent, AlertThresholdsDays: b.AlertThresholdsDays, ApprovalRequired: b.ApprovalRequired,
		ApprovalExpiresAfterHours: b.ApprovalExpiresAfterHours, MaintenanceWindows: b.MaintenanceWindows, AgentGroupID: b.AgentGroupID,
		FallbackIssuerIds: b.FallbackIssuerIds, FallbackAfterMinutes: b.FallbackAfterMinutes,
	})
	if err != nil {
		return nil, err
	}
	who, origin := asking(ctx)
	if p, err = s.policies.Create(ctx, who, origin, p); err != nil {
		return nil, err
	}
	return issuerapi.CreateRenewalPolicy201JSONResponse{
		Body: renewalPolicy(&p), Headers: issuerapi.CreateRenewalPolicy201ResponseHeaders{ETag: httpx.ETag(p.Revision)},
	}, nil
}

// GetRenewalPolicy implements the operation of that name.
func (s *server) GetRenewalPolicy(ctx context.Context, r issuerapi.GetRenewalPolicyRequestObject) (issuerapi.GetRenewalPolicyResponseObject, error) {
	if err := known("renewal policy", r.ID); err != nil {
		return nil, err
	}
	p, err := s.store.RenewalPolicy(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return issuerapi.GetRenewalPolicy200JSONResponse{
		Body: renewalPolicy(&p), Headers: issuerapi.GetRenewalPolicy200ResponseHeaders{ETag: httpx.ETag(p.Revision)},
	}, nil
}

// UpdateRenewalPolicy implements the operation of that name.
func (s *server) UpdateRenewalPolicy(ctx context.Context, r issuerapi.UpdateRenewalPolicyRequestObject) (issuerapi.UpdateRenewalPolicyResponseObject, error) {
	if err := known("renewal policy", r.ID); err != nil {
		return nil, err
	}
	who, origin := asking(ctx)
	p, err := s.policies.Update(ctx, who, origin, r.ID, func(p *renewal.Policy) error {
		if err := httpx.Match(r.Params.IfMatch, p.Revision); err != nil {
			return err
		}
		return merge(p, r.Body)
	})
	if err != nil {
		return nil, err
	}
	return issuerapi.UpdateRenewalPolicy200JSONResponse{
		Body: renewalPolicy(&p), Headers: issuerapi.UpdateRenewalPolicy200ResponseHeaders{ETag: httpx.ETag(p.Revision)},
	}, nil
}

// DeleteRenewalPolicy implements the operation of that name.
func (s *server) DeleteRenewalPolicy(ctx context.Context, r issuerapi.DeleteRenewalPolicyRequestObject) (issuerapi.DeleteRenewalPolicyResponseObject, error) {
	if err := known("renewal policy", r.ID); err != nil {
		return nil, err
	}
	who, origin := asking(ctx)
	if err := s.policies.Delete(ctx, who, origin, r.ID); err != nil {
		return nil, err
	}
	return issuerapi.DeleteRenewalPolicy204Response{}, nil
}

// GetRenewalPlan implements the operation of that name.
func (s *server) GetRenewalPlan(ctx context.Context, r issuerapi.GetRenewalPlanRequestObject) (issuerapi.GetRenewalPlanResponseObject, error) {
	if err := known("certificate", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	look, err := s.store.LookAt(ctx, p.Scope, r.ID)
	if err != nil {
		return nil, err
	}
	plan, err := s.service.Plan(ctx, &look)
	if err != nil {
		return nil, err
	}
	return issuerapi.GetRenewalPlan200JSONResponse{
		CertificateID: look.ID, RenewalPolicyID: plan.PolicyID, OpensAt: moment(plan.Opens), NextRenewalAt: moment(plan.At),
		WindowMissed: plan.WindowMissed, NextAlertAt: moment(plan.NextAlert), Reason: plan.Reason,
	}, nil
}

// merge sets of a policy what is given.
func merge(p *renewal.Policy, b *issuerapi.RenewalPolicyUpdate) error {
	set(&p.Name, b.Name)
	set(&p.AutoRenew, b.AutoRenew)
	set(&p.WindowDays, b.RenewalWindowDays)
	set(&p.WindowPercent, b.RenewalWindowPercent)
	set(&p.MaxRetries, b.MaxRetries)
	set(&p.RetryJitterPercent, b.RetryJitterPercent)
	set(&p.ApprovalRequired, b.ApprovalRequired)
	set(&p.AgentGroupID, b.AgentGroupID)
	set(&p.ThresholdDays, b.AlertThresholdsDays)
	set(&p.Fallbacks, b.FallbackIssuerIds)
	span(&p.FallbackAfter, b.FallbackAfterMinutes, time.Minute)
	span(&p.RetryInterval, b.RetryIntervalSeconds, time.Second)
	span(&p.RetryMaxInterval, b.RetryMaxIntervalSeconds, time.Second)
	span(&p.ApprovalExpiresAfter, b.ApprovalExpiresAfterHours, time.Hour)
	if b.MaintenanceWindows == nil {
		return nil
	}
	var bad []fault.Field
	p.Windows = nil
	for i, w := range *b.MaintenanceWindows {
		var days []string
		set(&days, w.Weekdays)
		window, wrong := renewal.ParseWindow(days, w.Start, w.End, value(w.TimeZone))
		for _, f := range wrong {
			bad = append(bad, fault.Field{Name: fmt.Sprintf("maintenance_windows[%d].%s", i, f.Name), Reason: f.Reason})
		}
		p.Windows = append(p.Windows, window)
	}
	if len(bad) > 0 {
		return fault.InvalidFields(bad...)
	}
	return nil
}

func set[T any](field, given *T) {
	if given != nil {
		*field = *given
	}
}

// span sets a duration from a number of units. What would overflow is out of every bound anyway.
func span(field *time.Duration, given *int, unit time.Duration) {
	if given != nil {
		*field = time.Duration(min(max(*given, -1), 1e9)) * unit
	}
}

func renewalPolicy(p *renewal.Policy) issuerapi.RenewalPolicy {
	out := issuerapi.RenewalPolicy{
		ID: p.ID, Name: p.Name, AutoRenew: p.AutoRenew, RenewalWindowDays: p.WindowDays, RenewalWindowPercent: p.WindowPercent,
		MaxRetries: p.MaxRetries, RetryIntervalSeconds: int(p.RetryInterval / time.Second),
		RetryMaxIntervalSeconds: int(p.RetryMaxInterval / time.Second), RetryJitterPercent: p.RetryJitterPercent,
		AlertThresholdsDays: append([]int{}, p.ThresholdDays...), ApprovalRequired: p.ApprovalRequired,
		ApprovalExpiresAfterHours: int(p.ApprovalExpiresAfter / time.Hour), AgentGroupID: p.AgentGroupID,
		MaintenanceWindows: make([]issuerapi.MaintenanceWindow, len(p.Windows)),
		FallbackIssuerIds:  append([]string{}, p.Fallbacks...), FallbackAfterMinutes: int(p.FallbackAfter / time.Minute),
		CreatedAt: p.CreatedAt.UTC(), UpdatedAt: p.UpdatedAt.UTC(),
	}
	for i, w := range p.Windows {
		days, start, end, zone := w.Names()
		out.MaintenanceWindows[i] = issuerapi.MaintenanceWindow{Weekdays: &days, Start: start, End: end, TimeZone: &zone}
	}
	return out
}
