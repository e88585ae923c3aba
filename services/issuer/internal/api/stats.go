package api

import (
	"context"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// GetStatsSummary implements the operation of that name, for what the issuer owns.
func (s *server) GetStatsSummary(ctx context.Context, _ issuerapi.GetStatsSummaryRequestObject) (issuerapi.GetStatsSummaryResponseObject, error) {
	f, err := s.store.Figures(ctx, authn.FromContext(ctx).Scope)
	if err != nil {
		return nil, err
	}
	of := func(status issuerapi.CertificateStatus) int64 { return f.Certificates[string(status)] }
	return issuerapi.GetStatsSummary200JSONResponse{
		TotalCertificates:    f.Total(),
		ActiveCertificates:   of(issuerapi.CertificateStatusActive),
		ExpiringCertificates: f.Expiring,
		ExpiredCertificates:  f.Expired,
		RevokedCertificates:  of(issuerapi.CertificateStatusRevoked),
		RenewalsInProgress:   of(issuerapi.CertificateStatusRenewalInProgress),
		PendingJobs:          f.JobsIn("", string(issuance.JobPending)),
		FailedJobs:           f.JobsIn("", string(issuance.JobFailed)),
		CompleteJobs:         f.JobsIn("", string(issuance.JobCompleted)),
		CompletedAt:          f.At,
	}, nil
}

// GetStatsCertificatesByStatus implements the operation of that name.
func (s *server) GetStatsCertificatesByStatus(ctx context.Context, _ issuerapi.GetStatsCertificatesByStatusRequestObject) (issuerapi.GetStatsCertificatesByStatusResponseObject, error) {
	f, err := s.store.Figures(ctx, authn.FromContext(ctx).Scope)
	if err != nil {
		return nil, err
	}
	out := make(issuerapi.GetStatsCertificatesByStatus200JSONResponse, len(issuance.CertificateStatuses))
	for i, status := range issuance.CertificateStatuses {
		out[i] = issuerapi.StatsStatusCount{Status: issuerapi.CertificateStatus(status), Count: f.Certificates[string(status)]}
	}
	return out, nil
}

// GetFleetMetrics implements the operation of that name, for what the issuer owns. The
// uptime is the gateway's to tell.
func (s *server) GetFleetMetrics(ctx context.Context, _ issuerapi.GetFleetMetricsRequestObject) (issuerapi.GetFleetMetricsResponseObject, error) {
	f, err := s.store.Figures(ctx, authn.FromContext(ctx).Scope)
	if err != nil {
		return nil, err
	}
	of := func(status issuerapi.CertificateStatus) int64 { return f.Certificates[string(status)] }
	ended := func(kind string, status issuance.JobStatus) int64 { return f.JobsIn(kind, string(status)) }
	var out issuerapi.GetFleetMetrics200JSONResponse
	g := &out.Gauge
	g.CertificateTotal, g.CertificatePending, g.CertificateActive = f.Total(), of(issuerapi.CertificateStatusPending), of(issuerapi.CertificateStatusActive)
	g.CertificateExpiringSoon, g.CertificateExpired = f.Expiring, f.Expired
	g.CertificateRenewalInProgress, g.CertificateFailed = of(issuerapi.CertificateStatusRenewalInProgress), of(issuerapi.CertificateStatusFailed)
	g.CertificateRevoked, g.CertificateArchived = of(issuerapi.CertificateStatusRevoked), of(issuerapi.CertificateStatusArchived)
	g.JobPending = f.JobsIn("", string(issuance.JobPending))
	c := &out.Counter
	c.JobCompletedTotal, c.JobFailedTotal = ended("", issuance.JobCompleted), ended("", issuance.JobFailed)
	issued, renewed := string(issuance.Issuance), string(issuance.Renewal)
	c.IssuanceCompletedTotal, c.IssuanceFailedTotal = ended(issued, issuance.JobCompleted), ended(issued, issuance.JobFailed)
	c.RenewalCompletedTotal, c.RenewalFailedTotal = ended(renewed, issuance.JobCompleted), ended(renewed, issuance.JobFailed)
	out.Uptime.MeasuredAt, out.Uptime.ServerStarted = f.At, f.At
	return out, nil
}

const (
	defaultDays = 30
	maxDays     = 365
)

// byDay answers a series for as many days as are asked for.
func byDay(ctx context.Context, asked *int, series func(context.Context, authn.Scope, int) ([]postgres.Day, error)) ([]postgres.Day, error) {
	days := defaultDays
	if asked != nil {
		days = *asked
	}
	if days < 1 || days > maxDays {
		return nil, invalid("days", "must be from 1 to 365")
	}
	return series(ctx, authn.FromContext(ctx).Scope, days)
}

// GetStatsExpirationTimeline implements the operation of that name.
func (s *server) GetStatsExpirationTimeline(ctx context.Context, r issuerapi.GetStatsExpirationTimelineRequestObject) (issuerapi.GetStatsExpirationTimelineResponseObject, error) {
	days, err := byDay(ctx, r.Params.Days, s.store.Expirations)
	if err != nil {
		return nil, err
	}
	out := make(issuerapi.GetStatsExpirationTimeline200JSONResponse, len(days))
	for i, d := range days {
		out[i] = issuerapi.StatsExpirations{Date: d.Date, Count: d.Count}
	}
	return out, nil
}

// GetStatsIssuanceRate implements the operation of that name.
func (s *server) GetStatsIssuanceRate(ctx context.Context, r issuerapi.GetStatsIssuanceRateRequestObject) (issuerapi.GetStatsIssuanceRateResponseObject, error) {
	days, err := byDay(ctx, r.Params.Days, s.store.Issuances)
	if err != nil {
		return nil, err
	}
	out := make(issuerapi.GetStatsIssuanceRate200JSONResponse, len(days))
	for i, d := range days {
		out[i] = issuerapi.StatsIssuances{Date: d.Date, IssuedCount: d.Count}
	}
	return out, nil
}

// GetStatsJobTrends implements the operation of that name, for the issuer's own jobs. The
// share of success is of both owners' jobs, so the gateway makes it.
func (s *server) GetStatsJobTrends(ctx context.Context, r issuerapi.GetStatsJobTrendsRequestObject) (issuerapi.GetStatsJobTrendsResponseObject, error) {
	days, err := byDay(ctx, r.Params.Days, s.store.Endings)
	if err != nil {
		return nil, err
	}
	out := make(issuerapi.GetStatsJobTrends200JSONResponse, len(days))
	for i, d := range days {
		out[i] = issuerapi.StatsJobs{Date: d.Date, CompletedCount: d.Count, FailedCount: d.Failed}
	}
	return out, nil
}
