package postgres_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// exec runs a statement as the schema's owner.
func (e *engine) exec(sql string, args ...any) {
	e.t.Helper()
	if _, err := pgtest.Admin(e.t, e.pool).Exec(e.t.Context(), sql, args...); err != nil {
		e.t.Fatalf("%s: %v", sql, err)
	}
}

// certificates adds n certificates of a status that expire at a time from now.
func (e *engine) certificates(n int, status, team, expires string) {
	e.t.Helper()
	e.exec(`INSERT INTO issuer.teams (id, name) VALUES ($1, $1) ON CONFLICT DO NOTHING`, team)
	e.exec(`INSERT INTO issuer.certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id,
			status, expires_at, created_at, updated_at)
		SELECT 'mc-' || md5($2 || $3 || $4 || i::text), 'n', 'x.example.com', '{x}', 'prod', 'o-default', $3, 'iss-local', 'rp-default',
			$2, CASE WHEN $4 = '' THEN '0001-01-01Z' ELSE now() + NULLIF($4, '')::interval END, now(), now()
		FROM generate_series(1, $1::int) i`, n, status, team, expires)
}

// ended adds n jobs of every certificate of a team that ended so long ago.
func (e *engine) ended(n int, kind, status, team, ago string) {
	e.t.Helper()
	e.exec(`INSERT INTO issuer.jobs (id, type, certificate_id, status, requested_by, created_at, completed_at)
		SELECT 'job-i-' || md5(c.id || $2 || $3 || $5 || i::text), $2, c.id, $3, 'key-1', now(),
			CASE WHEN $3 IN ('Completed', 'Failed', 'Cancelled') THEN now() - $5::interval END
		FROM issuer.certificates c, generate_series(1, $1::int) i WHERE c.team_id = $4`, n, kind, status, team, ago)
}

func (e *engine) figures(scope authn.Scope) postgres.Figures {
	e.t.Helper()
	f, err := e.store.Figures(e.t.Context(), scope)
	if err != nil {
		e.t.Fatal(err)
	}
	return f
}

// Trap 83: each status is counted as it is, and none is what is left of the others.
func TestFigures_CountEveryStatusAsItIsAndExpiryByTime(t *testing.T) {
	e := newEngine(t)
	e.certificates(3, "Active", "t-red", "31 days")
	e.certificates(2, "Active", "t-red", "29 days")
	e.certificates(1, "Active", "t-red", "-1 second")
	e.certificates(4, "Expiring", "t-red", "1 day")
	e.certificates(1, "Expired", "t-red", "-5 days")
	e.certificates(2, "Failed", "t-red", "2 days")
	e.certificates(5, "Pending", "t-red", "")
	e.certificates(1, "RenewalInProgress", "t-red", "3 days")
	e.certificates(6, "Revoked", "t-red", "4 days")
	e.certificates(7, "Archived", "t-red", "-9 days")
	f := e.figures(authn.Scope{})
	want := map[string]int64{
		"Active": 6, "Expiring": 4, "Expired": 1, "Failed": 2, "Pending": 5, "RenewalInProgress": 1, "Revoked": 6, "Archived": 7,
	}
	if d := cmp.Diff(want, f.Certificates); d != "" {
		t.Error(d)
	}
	if f.Total() != 32 || f.Expiring != 9 || f.Expired != 2 {
		t.Errorf("total %d, expiring %d, expired %d", f.Total(), f.Expiring, f.Expired)
	}
}

// Trap 82: the whole fleet, however large.
func TestFigures_AreOfTheWholeFleet(t *testing.T) {
	e := newEngine(t)
	e.fill(12_000)
	f := e.figures(authn.Scope{})
	if f.Total() != 12_000 || f.Certificates["Failed"] != 3000 || f.JobsIn("", "Completed") != 11_880 || f.JobsIn("Renewal", "Pending") != 120 {
		t.Errorf("%+v", f)
	}
}

func TestFigures_AreOfWhatTheScopeAdmits(t *testing.T) {
	e := newEngine(t)
	e.certificates(3, "Active", "t-red", "20 days")
	e.certificates(2, "Active", "t-blue", "20 days")
	e.ended(2, "Renewal", "Completed", "t-red", "1 hour")
	e.ended(1, "Issuance", "Failed", "t-blue", "1 hour")
	e.exec(`INSERT INTO issuer.certificate_versions (id, certificate_id, job_id, issuer_id, serial_number, fingerprint_sha256, spki_sha256,
			not_before, not_after, pem_chain, csr_pem, key_algorithm, key_size, created_at)
		SELECT 'cv-' || j.id, j.certificate_id, j.id, 'iss-local', j.id, j.id, j.id, now(), now(), '', '', 'ECDSA', 256, now()
		FROM issuer.jobs j WHERE j.status = 'Completed'`)
	for name, c := range map[string]struct {
		scope                                           authn.Scope
		certificates, completed, failed, expiring, made int64
	}{
		"all":         {authn.Scope{}, 5, 6, 2, 5, 6},
		"one team":    {authn.Scope{Teams: []string{"t-red"}}, 3, 6, 0, 3, 6},
		"the other":   {authn.Scope{Teams: []string{"t-blue"}}, 2, 0, 2, 2, 0},
		"none":        {authn.Scope{Teams: []string{}}, 0, 0, 0, 0, 0},
		"environment": {authn.Scope{Environments: []string{"prod"}}, 5, 6, 2, 5, 6},
		"issuer":      {authn.Scope{Issuers: []string{"iss-else"}}, 0, 0, 0, 0, 0},
	} {
		f := e.figures(c.scope)
		if f.Total() != c.certificates || f.JobsIn("Renewal", "Completed") != c.completed || f.JobsIn("", "Failed") != c.failed || f.Expiring != c.expiring {
			t.Errorf("%s: %+v", name, f)
		}
		for series, want := range map[string]struct {
			of     func() ([]postgres.Day, error)
			n, bad int64
		}{
			"expirations": {func() ([]postgres.Day, error) { return e.store.Expirations(t.Context(), c.scope, 30) }, c.expiring, 0},
			"endings":     {func() ([]postgres.Day, error) { return e.store.Endings(t.Context(), c.scope, 2) }, c.completed, c.failed},
			"issuances":   {func() ([]postgres.Day, error) { return e.store.Issuances(t.Context(), c.scope, 2) }, c.made, 0},
		} {
			days, err := want.of()
			var n, bad int64
			for _, d := range days {
				n, bad = n+d.Count, bad+d.Failed
			}
			if err != nil || n != want.n || bad != want.bad {
				t.Errorf("%s, %s: %d and %d, %v", name, series, n, bad, err)
			}
		}
	}
}

func TestSeries_HaveOneEntryADayInUTC(t *testing.T) {
	e := newEngine(t)
	today := time.Now().UTC().Truncate(24 * time.Hour)
	e.certificates(4, "Active", "t-red", "1 day")
	for i, at := range []time.Time{today, today.AddDate(0, 0, 2).Add(-time.Microsecond), today.AddDate(0, 0, 2), today.AddDate(0, 0, 3)} {
		e.exec(`UPDATE issuer.certificates SET expires_at = $1 WHERE id = (SELECT id FROM issuer.certificates ORDER BY id OFFSET $2 LIMIT 1)`, at, i)
	}
	e.certificates(9, "Archived", "t-red", "1 hour")
	got, err := e.store.Expirations(t.Context(), authn.Scope{}, 3)
	date := func(n int) string { return today.AddDate(0, 0, n).Format(time.DateOnly) }
	want := []postgres.Day{{Date: date(0), Count: 1}, {Date: date(1), Count: 1}, {Date: date(2), Count: 1}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	e.ended(1, "Renewal", "Completed", "t-red", "0")
	e.exec(`UPDATE issuer.jobs SET completed_at = $1`, today.AddDate(0, 0, -1))
	e.ended(1, "Renewal", "Cancelled", "t-red", "0")
	got, err = e.store.Endings(t.Context(), authn.Scope{}, 2)
	if d := cmp.Diff([]postgres.Day{{Date: date(-1), Count: 13}, {Date: date(0)}}, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	for _, days := range []int{1, 30, 365} {
		if got, err := e.store.Issuances(t.Context(), authn.Scope{}, days); err != nil || len(got) != days || got[days-1].Date != date(0) {
			t.Errorf("%d days: %d, %v", days, len(got), err)
		}
	}
}

// Figures of a large fleet are counted from indexes alone.
func TestFigures_AreCountedFromIndexesAlone(t *testing.T) {
	e := newEngine(t)
	e.fill(20_000)
	e.exec(`INSERT INTO issuer.certificate_versions (id, certificate_id, job_id, issuer_id, serial_number, fingerprint_sha256, spki_sha256,
			not_before, not_after, pem_chain, csr_pem, key_algorithm, key_size, created_at)
		SELECT 'cv-' || i, 'mc-' || i, 'job-i-' || i, 'iss-local', i, i, i, now(), now(), repeat('x', 1000), '', 'ECDSA', 256, now() - i * interval '1 hour'
		FROM generate_series(1, 20000) i`)
	e.exec(`UPDATE issuer.jobs SET completed_at = now() - random() * interval '30 days' WHERE status = 'Completed'`)
	e.exec(`UPDATE issuer.certificates SET expires_at = now() + random() * interval '90 days'`)
	for _, table := range []string{"certificates", "jobs", "certificate_versions"} {
		e.exec(`VACUUM ANALYZE issuer.` + table)
	}
	for name, query := range map[string]func() error{
		"figures":     func() error { _, err := e.store.Figures(t.Context(), authn.Scope{}); return err },
		"expirations": func() error { _, err := e.store.Expirations(t.Context(), authn.Scope{}, 30); return err },
		"endings":     func() error { _, err := e.store.Endings(t.Context(), authn.Scope{}, 30); return err },
		"issuances":   func() error { _, err := e.store.Issuances(t.Context(), authn.Scope{}, 30); return err },
	} {
		for _, plan := range e.countingPlans(query) {
			if !strings.Contains(plan, "Index Only Scan") || regexp.MustCompile(`Seq Scan|Bitmap`).MatchString(plan) {
				t.Errorf("%s:\n%s", name, plan)
			}
		}
	}
}

// countingPlans runs a query against a store of its own and returns the plans of its
// statements.
func (e *engine) countingPlans(query func() error) []string {
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
		if !strings.Contains(s.sql, "count(*)") {
			continue
		}
		rows, err := e.pool.Query(e.t.Context(), "EXPLAIN "+s.sql, s.args...)
		if err != nil {
			e.t.Fatal(err)
		}
		var plan strings.Builder
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				e.t.Fatal(err)
			}
			fmt.Fprintln(&plan, line)
		}
		if err := rows.Err(); err != nil {
			e.t.Fatal(err)
		}
		plans = append(plans, plan.String())
	}
	if len(plans) == 0 {
		e.t.Fatal("no statement was seen")
	}
	return plans
}
