package postgres_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/issuer/internal/bulk"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/profile"
)

// fill makes a database with enough rows for the planner to care.
func (e *engine) fill(n int) {
	e.t.Helper()
	owner := pgtest.Admin(e.t, e.pool)
	for _, sql := range []string{
		`INSERT INTO issuer.certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id,
			renewal_policy_id, status, version_id, expires_at, created_at, updated_at, tags, certificate_profile_id)
		SELECT 'mc-' || i, 'n-' || i, 'host-' || i || '.example.com', ARRAY['san-' || i], 'env-' || i % 20, 'o-default', 't-default', 'iss-local',
			'rp-default', (ARRAY['Active', 'Expiring', 'Failed', 'Pending'])[i % 4 + 1], 'cv-' || i,
			'2027-01-01'::timestamptz + i * interval '1 minute', '2026-01-01'::timestamptz + i * interval '1 second', '2026-02-01'::timestamptz + i * interval '1 second',
			jsonb_build_object('n', i::text, 'tier', 'gold') || CASE WHEN i % 5000 = 0 THEN '{"rare": ""}'::jsonb ELSE '{}' END, 'prof-' || i % 500
		FROM generate_series(1, $1::int) i`,
		`INSERT INTO issuer.certificate_targets (certificate_id, target_id, position)
		SELECT 'mc-' || i, 'tgt-' || i % 1000, 1 FROM generate_series(1, $1::int) i`,
		`INSERT INTO issuer.target_agents (target_id, agent_id, enabled, version, updated_at)
		SELECT 'tgt-' || i, 'ag-' || i % 100, true, 1, now() FROM generate_series(0, least(999, $1::int)) i`,
		`INSERT INTO issuer.jobs (id, type, certificate_id, status, requested_by, created_at, next_action_at)
		SELECT 'job-i-' || i, 'Renewal', 'mc-' || i, CASE WHEN i % 100 = 0 THEN 'Pending' ELSE 'Completed' END, 'key-1',
			'2026-01-01'::timestamptz + i * interval '1 second', CASE WHEN i % 100 = 0 THEN now() END
		FROM generate_series(1, $1::int) i`,
		`WITH rule AS (
			INSERT INTO issuer.policy_rules (id, name, type, config)
			SELECT 'pr-' || i, 'x', 'AllowedEnvironments', '{"environments": ["a"]}' FROM generate_series(0, 19) i RETURNING id
		)
		INSERT INTO issuer.policy_violations (id, rule_id, certificate_id, common_name, owner_id, team_id, environment, issuer_id,
			certificate_profile_id, stage, severity, blocked, message, told_by, told_at, created_at, last_seen_at)
		SELECT 'pv-' || i, 'pr-' || i % 20, 'mc-' || i, 'n', 'o', 't', 'e', 'i', '', 'issue', 'Warning', false, 'm' || i, 'x', now(),
			'2026-01-01'::timestamptz + i * interval '1 second', now()
		FROM generate_series(1, $1::int) i JOIN rule ON rule.id = 'pr-' || i % 20`,
	} {
		if _, err := owner.Exec(e.t.Context(), sql, n); err != nil {
			e.t.Fatal(err)
		}
	}
	if _, err := owner.Exec(e.t.Context(), `ANALYZE issuer.certificates, issuer.jobs, issuer.certificate_targets, issuer.target_agents, issuer.policy_violations`); err != nil {
		e.t.Fatal(err)
	}
}

// The hot queries are served by their indexes: no plan walks a table or sorts it.
func TestLists_AreServedByTheirIndexes(t *testing.T) {
	e := newEngine(t)
	e.fill(20_000)
	active, env, kind, status, certificate := "Active", "env-3", "Renewal", "Pending", "mc-7"
	first := postgres.Page{Number: 1, Size: 50}
	queries := map[string]func() error{}
	certificates := func(name string, q postgres.CertificateQuery) {
		queries[name] = func() error { _, err := e.store.Certificates(t.Context(), q); return err }
	}
	for _, sort := range sorts {
		for _, descending := range []bool{false, true} {
			name := fmt.Sprint("by ", sort, " descending ", descending)
			certificates(name, postgres.CertificateQuery{Sort: sort, Descending: descending, Page: first})
			certificates(name+", behind a cursor", postgres.CertificateQuery{
				Sort: sort, Descending: descending, Page: postgres.Page{Size: 50, Cursor: e.cursor(sort, descending)},
			})
		}
	}
	agent, profileID := "ag-3", "prof-3"
	soon := time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)
	for name, f := range map[string]issuance.Filter{
		"by status": {Statuses: []string{active}}, "by environment": {Environment: &env}, "by agent": {AgentID: &agent},
		"by profile": {ProfileID: &profileID}, "that expire soon": {ExpiresBefore: &soon},
	} {
		certificates(name, postgres.CertificateQuery{Sort: postgres.ByCreation, Filter: f, Page: first})
	}
	certificates("that expire soon, by expiry", postgres.CertificateQuery{
		Sort: postgres.ByExpiry, Filter: issuance.Filter{ExpiresBefore: &soon}, Page: first,
	})
	serves := map[string]string{
		`common_name == "host-77.example.com"`:                          "certificates_common_name",
		`common_name in ["host-77.example.com", "host-78.example.com"]`: "certificates_common_name",
		`common_name.startsWith("host-1999")`:                           "certificates_common_name",
		`common_name.endsWith("-19999.example.com")`:                    "certificates_suffix",
		`name.startsWith("n-77")`:                                       "certificates_name",
		`"san-77" in sans`:                                              "certificates_words",
		`tags["n"] == "77"`:                                             "certificates_words",
		`serial_number == "4711"`:                                       "certificates_serial",
		`has(tags.rare)`:                                                "certificates_words",
		`id == "mc-77"`:                                                 "certificates_pkey",
		`certificate_profile_id == "prof-3"`:                            "certificates_profile",
		`status == "Active" && tags["n"] == "77"`:                       "certificates_words",
		`expires_at < timestamp("2027-01-01T01:00:00Z")`:                "certificates_expires",
		`"san-77" in sans || common_name.startsWith("host-1999")`:       "BitmapOr",
	}
	for text := range serves {
		search, err := postgres.CertificateSearch.Ask(&text, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		certificates(text, postgres.CertificateQuery{Sort: postgres.ByExpiry, Filter: issuance.Filter{Search: search}, Page: first})
	}
	jobs := func(name string, q postgres.JobQuery) {
		q.Page = first
		queries[name] = func() error { _, err := e.store.Jobs(t.Context(), q); return err }
	}
	jobs("jobs", postgres.JobQuery{})
	jobs("jobs by status", postgres.JobQuery{Status: &status})
	jobs("jobs by type", postgres.JobQuery{Type: &kind})
	jobs("jobs of a certificate", postgres.JobQuery{CertificateID: &certificate})
	queries["due jobs"] = func() error {
		_, err := e.store.Claim(t.Context(), time.Now(), time.Now().Add(time.Minute), 64)
		return err
	}
	queries["next due job"] = func() error { _, _, err := e.store.NextDue(t.Context()); return err }
	queries["due certificates"] = func() error {
		look := func(context.Context, issuance.Looks) ([]issuance.Step, error) { return nil, nil }
		_, err := e.store.Look(t.Context(), time.Date(2026, 12, 3, 0, 0, 0, 0, time.UTC), 200, look)
		return err
	}
	queries["certificates of a policy that has changed"] = func() error {
		e.run(`INSERT INTO reschedules (policy_id, created_at) VALUES ('rp-default', '2026-01-01 02:00:00+00')`)
		_, err := e.store.Reschedule(t.Context(), 500)
		return err
	}
	queries["next due certificate"] = func() error { _, _, err := postgres.Looks{Store: e.store}.NextDue(t.Context()); return err }
	queries["a certificate's plan"] = func() error { _, err := e.store.LookAt(t.Context(), authn.Scope{}, "mc-9"); return err }
	e.profile(profile.Spec{ID: "prof-3", Name: "P"})
	ruleID := "pr-1"
	violations := func(name string, q postgres.ViolationQuery) {
		q.Page = first
		queries[name] = func() error { _, err := e.store.Violations(t.Context(), q); return err }
	}
	violations("violations", postgres.ViolationQuery{})
	violations("violations of a rule", postgres.ViolationQuery{RuleID: &ruleID})
	violations("violations of a certificate", postgres.ViolationQuery{CertificateID: &certificate})
	queries["the inventory"] = func() error { _, err := e.store.Inventory(t.Context(), authn.Scope{}, "mc-100", 50); return err }
	queries["certificates of a profile"] = func() error {
		err := e.store.RemoveProfile(t.Context(), "prof-3", issuance.Fact{Event: event.ProfileChanged{Record: event.Record{ID: "prof-3"}}, At: time.Now()})
		if fault.CodeOf(err) != fault.Conflict {
			return fmt.Errorf("in use, and yet: %w", err)
		}
		return nil
	}
	queries["one certificate"] = func() error { _, err := e.store.Certificate(t.Context(), authn.Scope{}, "mc-9"); return err }

	// What few rows are left is sorted; all of them never are.
	bad := regexp.MustCompile(`Seq Scan on (certificates|jobs|policy_violations)|Sort Key: .*j\.`)
	for name, query := range queries {
		t.Run(name, func(t *testing.T) {
			for _, plan := range e.plans(query) {
				if m := bad.FindString(plan); m != "" {
					t.Errorf("%s in\n%s", m, plan)
				}
				if !strings.Contains(plan, serves[name]) {
					t.Errorf("no %s in\n%s", serves[name], plan)
				}
				if strings.HasPrefix(name, "by ") && strings.Contains(plan, "Sort") && name != "by agent" {
					t.Errorf("Sort in\n%s", plan)
				}
			}
		})
	}
}

// While jobs begin by the thousand the server goes by what it saw before, when hardly any was open.
func TestJobs_AreFoundByTheirIdsWhenManyAreOpenAllOfASudden(t *testing.T) {
	e := newEngine(t)
	e.fill(5000)
	e.run(`UPDATE jobs SET status = 'Completed', next_action_at = NULL`)
	if _, err := pgtest.Admin(t, e.pool).Exec(t.Context(), `ANALYZE issuer.jobs`); err != nil {
		t.Fatal(err)
	}
	for name, query := range map[string]func() error{
		"a change": func() error {
			_, err := e.store.Apply(t.Context(), []issuance.Change{{JobID: "job-i-7", Token: 1, Status: issuance.JobFailed, At: e.clock.Now()}})
			return err
		},
		"a bulk operation": func() error {
			_, err := e.store.NextBatch(t.Context(), 200, func(context.Context, *bulk.Batch) error { return nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a bulk operation" {
				e.everything(bulkService(e.pool), bulk.Renew)
			}
			for _, plan := range e.plans(query) {
				if strings.Contains(plan, "jobs_open") && !strings.Contains(plan, "Index Cond: (certificate_id = c.id)") {
					t.Errorf("all open jobs are looked through in\n%s", plan)
				}
			}
		})
	}
}

// cursor is one behind a row in the middle of a list.
func (e *engine) cursor(sort postgres.Sort, descending bool) *page.Cursor {
	e.t.Helper()
	list, err := e.store.Certificates(e.t.Context(), postgres.CertificateQuery{Sort: sort, Descending: descending, Page: postgres.Page{Number: 9, Size: 100}})
	if err != nil {
		e.t.Fatal(err)
	}
	return list.Next
}

// plans runs a query and returns the plans of its statements, counts apart.
func (e *engine) plans(query func() error) []string {
	e.t.Helper()
	traced := &tracer{}
	cfg := e.pool.Config().Copy()
	cfg.ConnConfig.Tracer = traced
	previous := e.store
	defer func() { e.store = previous }()
	pool := e.open(cfg)
	defer pool.Close()
	e.store = postgres.New(pool, postgres.Hooks{Told: func() {}, Due: func() {}})
	if err := query(); err != nil {
		e.t.Fatal(err)
	}
	var plans []string
	for _, s := range traced.statements() {
		if !strings.HasPrefix(s.sql, "SELECT") && !strings.HasPrefix(s.sql, "WITH") || strings.Contains(s.sql, "count(*)") {
			continue
		}
		tx, err := e.pool.Begin(e.t.Context())
		if err != nil {
			e.t.Fatal(err)
		}
		rows, err := tx.Query(e.t.Context(), "EXPLAIN (VERBOSE OFF) "+s.sql, s.args...)
		if err != nil {
			e.t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			e.t.Fatal(err)
		}
		if err := tx.Rollback(e.t.Context()); err != nil {
			e.t.Fatal(err)
		}
		plans = append(plans, strings.Join(lines, "\n"))
	}
	if len(plans) == 0 {
		e.t.Fatal("no statement was seen")
	}
	return plans
}

func TestTotals_AreExactUpToTenThousandAndEstimatedBeyond(t *testing.T) {
	e := newEngine(t)
	e.fill(10_100)
	q := postgres.CertificateQuery{Sort: postgres.ByCreation, Page: postgres.Page{Number: 1, Size: 10}}
	list, err := e.store.Certificates(t.Context(), q)
	if err != nil || list.Total < 10_001 || list.Total > 12_000 {
		t.Errorf("10,100 rows: total %d, error %v", list.Total, err)
	}
	env := "env-3"
	q.Filter.Environment = &env
	if list, err = e.store.Certificates(t.Context(), q); err != nil || list.Total != 505 {
		t.Errorf("505 rows: total %d, error %v", list.Total, err)
	}
	if _, err := pgtest.Admin(t, e.pool).Exec(t.Context(), `DELETE FROM issuer.jobs; DELETE FROM issuer.certificate_targets; DELETE FROM issuer.certificates WHERE id > 'mc-10'`); err != nil {
		t.Fatal(err)
	}
	q.Scope = authn.Scope{Teams: []string{"t-default"}}
	q.Filter.Environment = nil
	list, err = e.store.Certificates(t.Context(), q)
	if want := int64(2); err != nil || list.Total != want {
		t.Errorf("total %d, want %d, error %v", list.Total, want, err)
	}
}
