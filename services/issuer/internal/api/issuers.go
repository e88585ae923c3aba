package api

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// connectionSuccessful is what a test that succeeds answers, as clients of the older API know it.
const connectionSuccessful = "connection_successful"

// ListIssuers implements the operation of that name.
func (s *server) ListIssuers(ctx context.Context, r issuerapi.ListIssuersRequestObject) (issuerapi.ListIssuersResponseObject, error) {
	p, _ := asking(ctx)
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := s.store.Issuers(ctx, p.Scope, at)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListIssuers200JSONResponse{
		Data: make([]issuerapi.Issuer, len(found.Rows)), Total: found.Total, Page: at.Number, PerPage: at.Size, NextCursor: next(found.Next),
	}
	ids := make([]string, len(found.Rows))
	for i := range found.Rows {
		ids[i] = found.Rows[i].ID
	}
	standings, err := s.store.Standings(ctx, ids, s.clock.Now())
	if err != nil {
		return nil, err
	}
	for i := range found.Rows {
		out.Data[i] = s.issuer(&found.Rows[i])
		out.Data[i].Health = s.health(&found.Rows[i], standings)
	}
	return out, nil
}

// CreateIssuer implements the operation of that name.
func (s *server) CreateIssuer(ctx context.Context, r issuerapi.CreateIssuerRequestObject) (issuerapi.CreateIssuerResponseObject, error) {
	p, origin := asking(ctx)
	b := r.Body
	i, err := s.issuers.Add(ctx, p, origin, registry.Request{
		ID: value(b.ID), Name: b.Name, Type: b.Type, Config: object(b.Config), Enabled: b.Enabled != nil && *b.Enabled,
		Limits: limits(b.Limits),
	})
	if err != nil {
		return nil, err
	}
	return issuerapi.CreateIssuer201JSONResponse{
		Body: s.issuer(&i), Headers: issuerapi.CreateIssuer201ResponseHeaders{ETag: httpx.ETag(i.Revision)},
	}, nil
}

// GetIssuer implements the operation of that name.
func (s *server) GetIssuer(ctx context.Context, r issuerapi.GetIssuerRequestObject) (issuerapi.GetIssuerResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	i, err := s.store.IssuerByID(ctx, p.Scope, r.ID)
	if err != nil {
		return nil, err
	}
	standings, err := s.store.Standings(ctx, []string{i.ID}, s.clock.Now())
	if err != nil {
		return nil, err
	}
	body := s.issuer(&i)
	body.Health = s.health(&i, standings)
	return issuerapi.GetIssuer200JSONResponse{
		Body: body, Headers: issuerapi.GetIssuer200ResponseHeaders{ETag: httpx.ETag(i.Revision)},
	}, nil
}

// UpdateIssuer implements the operation of that name.
func (s *server) UpdateIssuer(ctx context.Context, r issuerapi.UpdateIssuerRequestObject) (issuerapi.UpdateIssuerResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	b := r.Body
	i, err := s.issuers.Change(ctx, p, origin, r.ID,
		registry.Update{Name: b.Name, Type: b.Type, Config: object(b.Config), Enabled: b.Enabled, Limits: limits(b.Limits)}, seen(r.Params.IfMatch))
	if err != nil {
		return nil, err
	}
	return issuerapi.UpdateIssuer200JSONResponse{
		Body: s.issuer(&i), Headers: issuerapi.UpdateIssuer200ResponseHeaders{ETag: httpx.ETag(i.Revision)},
	}, nil
}

// DeleteIssuer implements the operation of that name.
func (s *server) DeleteIssuer(ctx context.Context, r issuerapi.DeleteIssuerRequestObject) (issuerapi.DeleteIssuerResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.issuers.Remove(ctx, p, origin, r.ID); err != nil {
		return nil, err
	}
	return issuerapi.DeleteIssuer204Response{}, nil
}

// TestIssuer implements the operation of that name.
func (s *server) TestIssuer(ctx context.Context, r issuerapi.TestIssuerRequestObject) (issuerapi.TestIssuerResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	t, err := s.issuers.Test(ctx, p, r.ID)
	if err != nil {
		return nil, err
	}
	return issuerapi.TestIssuer200JSONResponse{
		Status: connectionSuccessful, Enabled: t.Issuer.Enabled, SignsCrl: t.SignsCRL,
		Subject: text(t.Subject), NotAfter: moment(t.NotAfter),
	}, nil
}

// RotateIssuerAccountKey implements the operation of that name.
func (s *server) RotateIssuerAccountKey(
	ctx context.Context, r issuerapi.RotateIssuerAccountKeyRequestObject,
) (issuerapi.RotateIssuerAccountKeyResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	if err := s.issuers.RotateAccountKey(ctx, p, r.ID); err != nil {
		return nil, err
	}
	return issuerapi.RotateIssuerAccountKey204Response{}, nil
}

// PreflightIssuer implements the operation of that name.
func (s *server) PreflightIssuer(ctx context.Context, r issuerapi.PreflightIssuerRequestObject) (issuerapi.PreflightIssuerResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	found, err := s.issuers.Preflight(ctx, p, r.ID, r.Body.Names)
	if err != nil {
		return nil, err
	}
	out := issuerapi.PreflightIssuer200JSONResponse{Verdict: issuerapi.PreflightVerdict(ca.Worst(found)), Findings: make([]issuerapi.PreflightFinding, len(found))}
	for i, f := range found {
		out.Findings[i] = issuerapi.PreflightFinding{Name: f.Name, Check: f.Check, Verdict: issuerapi.PreflightVerdict(f.Verdict), Message: f.Says}
	}
	return out, nil
}

func object(config *map[string]any) map[string]any {
	if config == nil {
		return nil
	}
	return *config
}

func limits(l *issuerapi.IssuerLimits) registry.LimitsUpdate {
	if l == nil {
		return registry.LimitsUpdate{}
	}
	u := registry.LimitsUpdate{MaxConcurrent: l.MaxConcurrent, Rate: l.RateLimit}
	if l.RateWindowSeconds != nil {
		u.Window = new(time.Duration(*l.RateWindowSeconds) * time.Second)
	}
	return u
}

// health is how an issuer's CA stands, nil if it has never been asked.
func (s *server) health(i *registry.Issuer, standings map[string]postgres.IssuerStanding) *issuerapi.IssuerHealth {
	st, known := standings[i.ID]
	if !known {
		return nil
	}
	now := s.clock.Now()
	h := &issuerapi.IssuerHealth{
		Circuit: issuerapi.IssuerHealthCircuit(st.State(now)), Failures: st.Failures, UnderWay: st.UnderWay, Waiting: st.Waiting,
		RetryAt: moment(st.RetryAt), LastFailureAt: moment(st.LastFailureAt), LastSuccessAt: moment(st.LastSuccessAt),
	}
	if st.Failures > 0 {
		h.LastError = text(st.LastError)
	}
	if i.Limits.Rate > 0 {
		used, renewed := st.Budget(i.Limits, now)
		h.BudgetUsed, h.BudgetRenewedAt = &used, moment(renewed)
	}
	return h
}

func (s *server) issuer(i *registry.Issuer) issuerapi.Issuer {
	config := i.Config
	if config == nil {
		config = map[string]any{}
	}
	out := issuerapi.Issuer{
		ID: i.ID, Name: i.Name, Type: i.Type, Config: config, Enabled: i.Enabled, CaChainPem: text(i.CAChainPEM),
		CreatedAt: i.CreatedAt.UTC(), UpdatedAt: i.UpdatedAt.UTC(), CaExpiryWarning: text(i.Advice(s.clock.Now())),
		SettingsFrom: text(s.issuers.Source(i)),
		Limits: &issuerapi.IssuerLimits{
			MaxConcurrent: &i.Limits.MaxConcurrent, RateLimit: &i.Limits.Rate, RateWindowSeconds: new(int(i.Limits.Window / time.Second)),
		},
	}
	if end, ok := i.End(); ok {
		out.CaNotAfter = moment(end.NotAfter)
	}
	return out
}
