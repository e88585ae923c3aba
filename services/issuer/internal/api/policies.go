package api

import (
	"context"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/issuer/internal/policy"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/regulation"
)

// ListPolicies implements the operation of that name.
func (s *server) ListPolicies(ctx context.Context, r issuerapi.ListPoliciesRequestObject) (issuerapi.ListPoliciesResponseObject, error) {
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	group, err := filter("agent_group_id", r.Params.AgentGroupID)
	if err != nil {
		return nil, err
	}
	list, err := s.store.PolicyRules(ctx, group, at)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListPolicies200JSONResponse{
		Data: make([]issuerapi.PolicyRule, len(list.Rows)), Total: list.Total, Page: at.Number, PerPage: at.Size, NextCursor: next(list.Next),
	}
	for i, row := range list.Rows {
		out.Data[i] = ruleModel(row)
	}
	return out, nil
}

// ruleSpec is a rule as it was sent.
func ruleSpec(b *issuerapi.PolicyRuleCreate) policy.Spec {
	spec := policy.Spec{ID: value(b.ID), Name: b.Name, Type: policy.Type(b.Type), Config: b.Config, AgentGroupID: value(b.AgentGroupID)}
	if b.Severity != nil {
		spec.Severity = policy.Severity(*b.Severity)
	}
	assign(&spec.Enabled, b.Enabled)
	return spec
}

// CreatePolicy implements the operation of that name.
func (s *server) CreatePolicy(ctx context.Context, r issuerapi.CreatePolicyRequestObject) (issuerapi.CreatePolicyResponseObject, error) {
	p, origin := asking(ctx)
	made, err := s.rules.CreateRule(ctx, p, origin, ruleSpec(r.Body))
	if err != nil {
		return nil, err
	}
	return issuerapi.CreatePolicy201JSONResponse{
		Body: ruleModel(made), Headers: issuerapi.CreatePolicy201ResponseHeaders{ETag: httpx.ETag(made.Revision)},
	}, nil
}

// GetPolicy implements the operation of that name.
func (s *server) GetPolicy(ctx context.Context, r issuerapi.GetPolicyRequestObject) (issuerapi.GetPolicyResponseObject, error) {
	if err := known("policy", r.ID); err != nil {
		return nil, err
	}
	found, err := s.store.PolicyRule(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return issuerapi.GetPolicy200JSONResponse{
		Body: ruleModel(found), Headers: issuerapi.GetPolicy200ResponseHeaders{ETag: httpx.ETag(found.Revision)},
	}, nil
}

// UpdatePolicy implements the operation of that name.
func (s *server) UpdatePolicy(ctx context.Context, r issuerapi.UpdatePolicyRequestObject) (issuerapi.UpdatePolicyResponseObject, error) {
	if err := known("policy", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	made, err := s.rules.UpdateRule(ctx, p, origin, r.ID, matching(r.Params.IfMatch), func(spec *policy.Spec) {
		b := r.Body
		assign(&spec.Name, b.Name)
		if b.Type != nil {
			spec.Type = policy.Type(*b.Type)
		}
		if b.Config != nil {
			spec.Config = *b.Config
		}
		if b.Severity != nil {
			spec.Severity = policy.Severity(*b.Severity)
		}
		assign(&spec.AgentGroupID, b.AgentGroupID)
		assign(&spec.Enabled, b.Enabled)
	})
	if err != nil {
		return nil, err
	}
	return issuerapi.UpdatePolicy200JSONResponse{
		Body: ruleModel(made), Headers: issuerapi.UpdatePolicy200ResponseHeaders{ETag: httpx.ETag(made.Revision)},
	}, nil
}

// DeletePolicy implements the operation of that name.
func (s *server) DeletePolicy(ctx context.Context, r issuerapi.DeletePolicyRequestObject) (issuerapi.DeletePolicyResponseObject, error) {
	if err := known("policy", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.rules.DeleteRule(ctx, p, origin, r.ID); err != nil {
		return nil, err
	}
	return issuerapi.DeletePolicy204Response{}, nil
}

// DryRunPolicyDraft implements the operation of that name.
func (s *server) DryRunPolicyDraft(ctx context.Context, r issuerapi.DryRunPolicyDraftRequestObject) (issuerapi.DryRunPolicyDraftResponseObject, error) {
	rule, err := regulation.Draft(ruleSpec(r.Body))
	if err != nil {
		return nil, err
	}
	out, err := s.dryRun(ctx, rule, r.Params.Cursor)
	return issuerapi.DryRunPolicyDraft200JSONResponse(out), err
}

// DryRunPolicy implements the operation of that name.
func (s *server) DryRunPolicy(ctx context.Context, r issuerapi.DryRunPolicyRequestObject) (issuerapi.DryRunPolicyResponseObject, error) {
	if err := known("policy", r.ID); err != nil {
		return nil, err
	}
	rule, err := s.store.PolicyRule(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	out, err := s.dryRun(ctx, rule, r.Params.Cursor)
	return issuerapi.DryRunPolicy200JSONResponse(out), err
}

func (s *server) dryRun(ctx context.Context, rule *policy.Rule, cursor *string) (issuerapi.PolicyDryRun, error) {
	p, _ := asking(ctx)
	from, err := pageOf(nil, nil, cursor)
	if err != nil {
		return issuerapi.PolicyDryRun{}, err
	}
	after := ""
	if from.Cursor != nil {
		after = from.Cursor.ID
	}
	run, err := s.rules.DryRun(ctx, p, rule, after)
	if err != nil {
		return issuerapi.PolicyDryRun{}, err
	}
	out := issuerapi.PolicyDryRun{
		Evaluated: run.Evaluated, Violating: run.Violating, ByEnvironment: countModels(run.ByEnvironment),
		ByOwner: countModels(run.ByOwner), Violations: make([]issuerapi.PolicyDryRunViolation, len(run.Violations)),
		Complete: run.Next == "",
	}
	if run.Next != "" {
		out.Cursor = next(&page.Cursor{ID: run.Next})
	}
	for i, v := range run.Violations {
		out.Violations[i] = issuerapi.PolicyDryRunViolation(v)
	}
	return out, nil
}

func countModels(counts []regulation.Count) []issuerapi.PolicyDryRunCount {
	out := make([]issuerapi.PolicyDryRunCount, len(counts))
	for i, c := range counts {
		out[i] = issuerapi.PolicyDryRunCount{Value: c.Value, Count: c.Count}
	}
	return out
}

// ListPolicyViolations implements the operation of that name.
func (s *server) ListPolicyViolations(ctx context.Context, r issuerapi.ListPolicyViolationsRequestObject) (issuerapi.ListPolicyViolationsResponseObject, error) {
	if err := known("policy", r.ID); err != nil {
		return nil, err
	}
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	if _, err := s.store.PolicyRule(ctx, r.ID); err != nil {
		return nil, err
	}
	out, err := s.violations(ctx, postgres.ViolationQuery{RuleID: &r.ID, Page: at})
	return issuerapi.ListPolicyViolations200JSONResponse(out), err
}

// ListViolations implements the operation of that name.
func (s *server) ListViolations(ctx context.Context, r issuerapi.ListViolationsRequestObject) (issuerapi.ListViolationsResponseObject, error) {
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	q := postgres.ViolationQuery{Page: at}
	if q.CertificateID, err = filter("certificate_id", r.Params.CertificateID); err != nil {
		return nil, err
	}
	out, err := s.violations(ctx, q)
	return issuerapi.ListViolations200JSONResponse(out), err
}

func (s *server) violations(ctx context.Context, q postgres.ViolationQuery) (issuerapi.PolicyViolationList, error) {
	p, _ := asking(ctx)
	q.Scope = p.Scope
	list, err := s.store.Violations(ctx, q)
	if err != nil {
		return issuerapi.PolicyViolationList{}, err
	}
	out := issuerapi.PolicyViolationList{
		Data: make([]issuerapi.PolicyViolation, len(list.Rows)), Total: list.Total,
		Page: q.Page.Number, PerPage: q.Page.Size, NextCursor: next(list.Next),
	}
	for i, v := range list.Rows {
		out.Data[i] = issuerapi.PolicyViolation{
			ID: v.ID, RuleID: v.RuleID, CertificateID: v.CertificateID, CommonName: v.CommonName, Message: v.Message,
			Severity: issuerapi.PolicySeverity(v.Severity), Stage: v.Stage, Blocked: v.Blocked, Count: v.Count,
			CreatedAt: v.CreatedAt.UTC(), LastSeenAt: v.LastSeenAt.UTC(),
		}
	}
	return out, nil
}

func ruleModel(r *policy.Rule) issuerapi.PolicyRule {
	return issuerapi.PolicyRule{
		ID: r.ID, Name: r.Name, Type: issuerapi.PolicyType(r.Type), Config: r.Config, Severity: issuerapi.PolicySeverity(r.Severity),
		AgentGroupID: text(r.AgentGroupID), Enabled: r.Enabled, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
}
