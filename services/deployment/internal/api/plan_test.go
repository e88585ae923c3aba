package api_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// Totals of many jobs are estimates, and what is rare is found by its index.
func TestJobs_AreFoundByTheirIndexes(t *testing.T) {
	s := newServer(t)
	s.deployed(1, "mc-1", "iss-local", "t-default")
	s.exec(`INSERT INTO jobs (id, type, certificate_id, version_id, fingerprint_sha256, target_id, agent_id, status, scheduled_at, created_at, completed_at)
		SELECT 'job-d-x' || i, CASE WHEN i = 7 THEN 'Validation' ELSE 'Deployment' END, 'mc-' || i, 'cv-mc-1', 'f', 'tgt-' || i, 'ag-' || i % 5000,
			'Completed', now(), now() - i * interval '1 second', now() FROM generate_series(1, 20000) i`)
	if _, err := pgtest.Admin(t, s.db).Exec(t.Context(), `ANALYZE deployment.jobs`); err != nil {
		t.Fatal(err)
	}
	var list deploymentapi.JobList
	s.call(200, "GET", "/api/v1/jobs", nil, &list)
	if list.Total < 10_001 || list.Total > 22_000 {
		t.Errorf("total %d", list.Total)
	}
	for text, index := range map[string]string{
		`target_id == "tgt-7"`: "jobs_target", `agent_id == "ag-7"`: "jobs_agent", `type == "Validation"`: "jobs_type",
		`certificate_id == "mc-7"`: "jobs_certificate", `id == "job-d-x7"`: "jobs_pkey", `status == "Failed"`: "jobs_status",
	} {
		s.call(200, "GET", "/api/v1/jobs?q="+url.QueryEscape(text), nil, &list)
		search, err := postgres.JobSearch.Ask(&text, s.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		var args []any
		where, _ := search.Condition(func(v any) string { args = append(args, v); return fmt.Sprint("$", len(args)) })
		rows, err := s.db.Query(t.Context(), "EXPLAIN SELECT * FROM jobs j WHERE "+where+" ORDER BY created_at DESC, id DESC LIMIT 51",
			append([]any{pgx.QueryExecModeCacheDescribe}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || !strings.Contains(strings.Join(plan, "\n"), index) {
			t.Errorf("%s: no %s in\n%s (%v)", text, index, strings.Join(plan, "\n"), err)
		}
	}
}
