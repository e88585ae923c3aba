package postgres_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

// explaining is a transaction that notes the plan of each query.
type explaining struct {
	pgx.Tx
	t     *testing.T
	plans []string
}

func (e *explaining) explain(ctx context.Context, sql string, args []any) {
	e.t.Helper()
	if strings.Contains(sql, "count(*) FROM") {
		return
	}
	rows, err := e.Tx.Query(ctx, "EXPLAIN "+sql, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		e.t.Fatal(err)
	}
	e.plans = append(e.plans, strings.Join(lines, "\n"))
}

func (e *explaining) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	e.explain(ctx, sql, args)
	return e.Tx.Query(ctx, sql, args...)
}

func (e *explaining) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	e.explain(ctx, sql, args)
	return e.Tx.Exec(ctx, sql, args...)
}

func (e *explaining) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	e.explain(ctx, sql, args)
	return e.Tx.QueryRow(ctx, sql, args...)
}

// What is asked of many rows is answered by an index: no plan walks a table or sorts it.
func TestQueries_AreServedByTheirIndexes(t *testing.T) {
	db := pgtest.New(t, migrations.FS("deployment"), "deployment")
	owner := pgtest.Admin(t, db)
	for _, sql := range []string{
		`INSERT INTO deployment.agents (id, site_id, public_key, status, last_heartbeat_at, registered_at)
			SELECT 'agent-' || i, 'site-local', i, 'Online', now(), '2026-01-01'::timestamptz + i * interval '1 second' FROM generate_series(1, 5000) i`,
		`INSERT INTO deployment.targets (id, name, type, agent_id, created_at, updated_at)
			SELECT 'tgt-' || i, i, CASE i % 50 WHEN 0 THEN 'F5' ELSE 'NGINX' END, 'agent-' || i, '2026-01-01'::timestamptz + i * interval '1 second', now()
			FROM generate_series(1, 5000) i`,
		`INSERT INTO deployment.agent_groups (id, name, created_at, updated_at)
			SELECT 'ag-' || i, i, '2026-01-01'::timestamptz + i * interval '1 second', now() FROM generate_series(1, 5000) i`,
		`INSERT INTO deployment.certificates (id, target_ids, version_id) SELECT 'mc-' || i, ARRAY['tgt-' || i], 'cv-' || i FROM generate_series(1, 5000) i`,
		`INSERT INTO deployment.versions (id, certificate_id, fingerprint_sha256, not_before, not_after, pem_chain)
			SELECT 'cv-' || i, 'mc-' || i, i, now(), now(), '' FROM generate_series(1, 5000) i`,
		`INSERT INTO deployment.jobs (id, type, certificate_id, version_id, fingerprint_sha256, target_id, status, completed_at, scheduled_at, created_at)
			SELECT 'job-d-' || i || '-' || n, 'Deployment', 'mc-' || i, 'cv-' || i, i, 'tgt-' || i, 'Completed', now(), now(),
				'2026-01-01'::timestamptz + i * interval '1 second' FROM generate_series(1, 5000) i, generate_series(1, 8) n`,
		`INSERT INTO deployment.agent_work (job_id, attempt, verb, agent_id, site_id, certificate_id, state, body, deadline, expires_at, created_at, closed_at)
			SELECT 'job-d-' || i, 1, 'deploy', 'agent-' || i % 5000 + 1, 'site-local', 'mc-' || i, CASE WHEN open THEN 'Sent' ELSE 'Done' END,
				CASE WHEN open THEN ''::bytea END, CASE WHEN open THEN now() END, now(), now(), CASE WHEN NOT open THEN now() END
			FROM generate_series(1, 20000) i, LATERAL (SELECT i % 100 = 7 AS open) o`,
		`INSERT INTO deployment.wishes SELECT 'mc-' || i, 'tgt-' || i, i FROM generate_series(1, 5000) i`,
		`INSERT INTO deployment.replaced_leaves SELECT 'U' || i, 'site-local', NULL, 1, now() FROM generate_series(1, 5000) i`,
		`ANALYZE`,
	} {
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	place := postgres.Place{Limit: 51}
	behind := postgres.Place{Limit: 51, BehindID: "tgt-500", Behind: time.Date(2026, 1, 1, 0, 8, 20, 0, time.UTC)}
	job := &rollout.Job{ID: "job-d-7-1", CertificateID: "mc-7", TargetID: "tgt-7"}
	bad := regexp.MustCompile(`Seq Scan on (agents|targets|agent_groups|certificates|versions|jobs|agent_work|wishes|replaced_leaves)|Sort Key: (created_at|registered_at)`)
	for what, query := range map[string]func(tx pgx.Tx) error{
		"targets": func(tx pgx.Tx) error {
			_, _, err := postgres.ListTargets(t.Context(), tx, postgres.TargetFilter{}, place)
			return err
		},
		"targets behind": func(tx pgx.Tx) error {
			_, _, err := postgres.ListTargets(t.Context(), tx, postgres.TargetFilter{}, behind)
			return err
		},
		"targets of a type": func(tx pgx.Tx) error {
			_, _, err := postgres.ListTargets(t.Context(), tx, postgres.TargetFilter{Type: "F5"}, place)
			return err
		},
		"targets of an agent": func(tx pgx.Tx) error { _, _, err := postgres.TargetsOf(t.Context(), tx, "agent-7", 10); return err },
		"agents": func(tx pgx.Tx) error {
			_, _, err := postgres.ListAgents(t.Context(), tx, postgres.AgentFilter{}, place)
			return err
		},
		"groups": func(tx pgx.Tx) error {
			_, _, err := postgres.ListGroups(t.Context(), tx, postgres.GroupFilter{}, place)
			return err
		},
		"uses of a target": func(tx pgx.Tx) error { _, _, err := postgres.UsesOfTarget(t.Context(), tx, "tgt-7", 10); return err },
		"deployments":      func(tx pgx.Tx) error { _, err := postgres.Installations(t.Context(), tx, "mc-7"); return err },
		"expectations":     func(tx pgx.Tx) error { _, _, err := postgres.Expectations(t.Context(), tx, "mc-7", ""); return err },
		"standing":         func(tx pgx.Tx) error { _, err := postgres.JobStanding(t.Context(), tx, job); return err },
		"undone deployments": func(tx pgx.Tx) error {
			_, err := postgres.UndoneDeployments(t.Context(), tx, []*rollout.Job{job})
			return err
		},
		"orders that are due": func(tx pgx.Tx) error { _, err := postgres.DueOrders(t.Context(), tx, time.Now(), 100); return err },
		"orders of an agent":  func(tx pgx.Tx) error { _, err := postgres.OpenOrders(t.Context(), tx, "agent-8"); return err },
		"orders to hurry":     func(tx pgx.Tx) error { return postgres.HurryOrders(t.Context(), tx, []string{"agent-8"}, time.Now()) },
		"later wishes": func(tx pgx.Tx) error {
			_, err := postgres.LaterWishes(t.Context(), tx, []string{"mc-7"}, []int64{3})
			return err
		},
		"former leaves": func(tx pgx.Tx) error {
			_, err := postgres.ClaimReplacedLeaves(t.Context(), tx, time.Now(), time.Minute, 100)
			return err
		},
		"members by hand": func(tx pgx.Tx) error {
			_, err := postgres.SetMember(t.Context(), tx, "ag-7", "agent-7", fleet.Include, time.Now())
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			tx, err := db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
			e := &explaining{Tx: tx, t: t}
			if err := query(e); err != nil {
				t.Fatal(err)
			}
			if len(e.plans) == 0 {
				t.Error("no query was seen")
			}
			for _, plan := range e.plans {
				if m := bad.FindString(plan); m != "" {
					t.Errorf("%s in\n%s", m, plan)
				}
			}
		})
	}
}

// A certificate that has long been renewed has many jobs, and one under way: what is to be called off is found without
// the others.
func TestCancelJobs_LooksAtWhatIsUnderWayAlone(t *testing.T) {
	db := pgtest.New(t, migrations.FS("deployment"), "deployment")
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	e := &explaining{Tx: tx, t: t}
	if err := postgres.CancelJobs(t.Context(), e, []postgres.Doom{{CertificateID: "mc-7", ExceptVersion: "cv-7"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if len(e.plans) != 1 || !strings.Contains(e.plans[0], "jobs_open") {
		t.Errorf("no jobs_open in %v", e.plans)
	}
}
