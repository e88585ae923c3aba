package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/testkit/pgtest"
)

// ends gives the jobs of a certificate a status and a time.
func (s *server) ends(certificate, status string, at time.Time) {
	s.Helper()
	s.exec(`UPDATE jobs SET status = $2, next_action_at = NULL, completed_at = $3 WHERE certificate_id = $1`, certificate, status, at)
}

func (s *server) summary(scope authn.Scope) (sum deploymentapi.StatsSummary) {
	s.Helper()
	s.caller = admin
	s.caller.Scope = scope
	s.call(200, "GET", "/api/v1/stats/summary", nil, &sum)
	return sum
}

func TestStats_CountAgentsAndJobsWithinTheScope(t *testing.T) {
	s := newServer(t)
	for _, id := range []string{"agent-a", "agent-b", "agent-c", "agent-d"} {
		s.agent(id)
	}
	s.exec(`UPDATE agents SET status = 'Offline' WHERE id = 'agent-b'`)
	s.exec(`UPDATE agents SET status = 'Degraded' WHERE id = 'agent-c'`)
	s.exec(`UPDATE agents SET status = 'Retired', retired_at = now() WHERE id = 'agent-d'`)
	s.deployed(4, "mc-1", "iss-local", "t-red")
	s.deployed(3, "mc-2", "iss-local", "t-blue")
	s.deployed(2, "mc-3", "iss-local", "t-blue")
	s.ends("mc-1", "Completed", s.clock.Now())
	s.ends("mc-2", "Failed", s.clock.Now().AddDate(0, 0, -1))
	all := s.summary(authn.Scope{})
	if all.ActiveAgents != 1 || all.OfflineAgents != 1 || all.TotalAgents != 3 || all.CompleteJobs != 4 || all.FailedJobs != 3 || all.PendingJobs != 2 ||
		all.TotalCertificates != 0 || all.CompletedAt.IsZero() {
		t.Errorf("%+v", all)
	}
	blue := s.summary(authn.Scope{Teams: []string{"t-blue"}})
	if blue.TotalAgents != 3 || blue.CompleteJobs != 0 || blue.FailedJobs != 3 || blue.PendingJobs != 2 {
		t.Errorf("%+v", blue)
	}
	s.caller = admin
	var metrics deploymentapi.FleetMetrics
	s.call(200, "GET", "/api/v1/metrics", nil, &metrics)
	if metrics.Gauge.AgentTotal != 3 || metrics.Gauge.AgentOnline != 1 || metrics.Gauge.JobPending != 2 || metrics.Counter.JobFailedTotal != 3 {
		t.Errorf("%+v", metrics)
	}
	var days []deploymentapi.StatsJobs
	s.call(200, "GET", "/api/v1/stats/job-trends?days=2", nil, &days)
	if len(days) != 2 || days[0].FailedCount != 3 || days[1].CompletedCount != 4 || days[1].Date != s.clock.Now().Format(time.DateOnly) {
		t.Errorf("%+v", days)
	}
	s.call(200, "GET", "/api/v1/stats/job-trends", nil, &days)
	if len(days) != 30 {
		t.Errorf("%d days", len(days))
	}
	for _, query := range []string{"0", "366", "x"} {
		s.refused(400, "GET", "/api/v1/stats/job-trends?days="+query, nil)
	}
}

// Jobs are counted from indexes alone, however many there are.
func TestStats_CountJobsFromIndexesAlone(t *testing.T) {
	s := newServer(t)
	s.deployed(20_000, "mc-1", "iss-local", "t-red")
	s.exec(`UPDATE jobs SET status = 'Completed', completed_at = now() - random() * interval '30 days'`)
	if _, err := pgtest.Admin(t, s.db).Exec(t.Context(), `VACUUM ANALYZE deployment.jobs`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`SELECT j.status, count(*) FROM jobs j GROUP BY j.status`,
		`SELECT (j.completed_at AT TIME ZONE 'UTC')::date, count(*) FILTER (WHERE j.status = 'Completed') FROM jobs j
			WHERE j.completed_at >= now() - interval '2 days' AND j.completed_at < now() AND j.status IN ('Completed', 'Failed') GROUP BY 1`,
	} {
		rows, err := s.db.Query(t.Context(), "EXPLAIN "+sql)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if plan := strings.Join(lines, "\n"); err != nil || !strings.Contains(plan, "Index Only Scan") {
			t.Errorf("%v\n%s", err, plan)
		}
	}
}
