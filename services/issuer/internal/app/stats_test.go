package app_test

import (
	"net/http"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/app"
)

const stats = "/api/v1/stats/"

func TestStats_TellOfTheWholeFleet(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.fill(700)
	var summary issuerapi.StatsSummary
	w.must(http.StatusOK, http.MethodGet, "getStatsSummary", stats+"summary", nil, &summary)
	if summary.TotalCertificates != 700 || summary.ActiveCertificates != 175 || summary.CompleteJobs != 700 || summary.TotalAgents != 0 ||
		summary.CompletedAt.IsZero() {
		t.Errorf("%+v", summary)
	}
	var byStatus []issuerapi.StatsStatusCount
	w.must(http.StatusOK, http.MethodGet, "getStatsCertificatesByStatus", stats+"certificates-by-status", nil, &byStatus)
	sum := int64(0)
	for _, s := range byStatus {
		sum += s.Count
	}
	if len(byStatus) != 8 || sum != 700 {
		t.Errorf("%+v", byStatus)
	}
	var metrics issuerapi.FleetMetrics
	w.must(http.StatusOK, http.MethodGet, "getFleetMetrics", "/api/v1/metrics", nil, &metrics)
	if metrics.Gauge.CertificateTotal != 700 || metrics.Gauge.CertificateFailed != 175 || metrics.Counter.IssuanceCompletedTotal != 700 ||
		metrics.Counter.RenewalCompletedTotal != 0 {
		t.Errorf("%+v", metrics)
	}
}

func TestStats_ByDayHaveThirtyDaysUnlessAskedForOthers(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for operation, path := range map[string]string{
		"getStatsExpirationTimeline": stats + "expiration-timeline", "getStatsIssuanceRate": stats + "issuance-rate",
		"getStatsJobTrends": stats + "job-trends",
	} {
		for query, want := range map[string]int{"": 30, "?days=1": 1, "?days=365": 365} {
			var days []map[string]any
			w.must(http.StatusOK, http.MethodGet, operation, path+query, nil, &days)
			if len(days) != want || days[0]["date"] == "" {
				t.Errorf("%s%s: %d days", path, query, len(days))
			}
		}
		for _, query := range []string{"?days=0", "?days=-1", "?days=366", "?days=x", "?days=1.5"} {
			w.must(http.StatusBadRequest, http.MethodGet, operation, path+query, nil, nil)
		}
	}
}
