package postgres_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// keeping is a transaction that notes, of statements whose plan is kept, that plan.
type keeping struct {
	pgx.Tx
	t     *testing.T
	plans []string
}

func (k *keeping) note(ctx context.Context, sql string, args []any) {
	k.t.Helper()
	if len(args) == 0 || args[0] != pgx.QueryExecModeCacheDescribe || len(args) < 2 || args[1] != pgx.QueryExecModeCacheStatement {
		return
	}
	name := fmt.Sprintf("kept_%d", len(k.plans))
	nulls := strings.TrimSuffix(strings.Repeat("NULL, ", len(args)-2), ", ")
	for _, sql := range []string{"SET LOCAL plan_cache_mode = force_generic_plan", "PREPARE " + name + " AS " + sql} {
		if _, err := k.Tx.Exec(ctx, sql); err != nil {
			k.t.Fatal(err)
		}
	}
	rows, err := k.Tx.Query(ctx, "EXPLAIN EXECUTE "+name+"("+nulls+")")
	if err != nil {
		k.t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		k.t.Fatal(err)
	}
	k.plans = append(k.plans, sql+"\n"+strings.Join(lines, "\n"))
}

func (k *keeping) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	k.note(ctx, sql, args)
	return k.Tx.Query(ctx, sql, args...)
}

func (k *keeping) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	k.note(ctx, sql, args)
	return k.Tx.Exec(ctx, sql, args...)
}

// A plan that is kept from the first minute, when tables were empty, is the one that is right when they are large: it
// looks rows up one by one.
func TestKeptPlans_AreRightFromTheStart(t *testing.T) {
	db := pgtest.New(t, migrations.FS("deployment"), "deployment")
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	k := &keeping{Tx: tx, t: t}
	now := time.Now()
	v := rollout.Version{ID: "cv-1", CertificateID: "mc-1"}
	c := postgres.Certificate{ID: "mc-1", TargetIDs: []string{"tgt-1"}}
	j := &rollout.Job{ID: "job-d-1", Type: rollout.TypeDeployment, CertificateID: "mc-1", VersionID: "cv-1", Status: rollout.Pending, MaxAttempts: 1}
	o := &rollout.Order{JobID: "job-d-1", Attempt: 1, Verb: "deploy", State: rollout.OrderSent, Body: []byte{}, Deadline: now, ExpiresAt: now}
	for _, do := range []func() error{
		func() error { return postgres.NoteRequested(t.Context(), k, []postgres.Certificate{c}) },
		func() error {
			_, err := postgres.NoteIssued(t.Context(), k, []postgres.Issued{{Certificate: c, Version: v}})
			return err
		},
		func() error {
			_, err := postgres.LaterWishes(t.Context(), k, []string{"mc-1"}, []int64{1})
			return err
		},
		func() error {
			return postgres.CancelJobs(t.Context(), k, []postgres.Doom{{CertificateID: "mc-1"}}, now)
		},
		func() error { _, err := postgres.Places(t.Context(), k, []string{"tgt-1"}); return err },
		func() error { _, err := postgres.Agents(t.Context(), k, []string{"agent-1"}); return err },
		func() error { _, err := postgres.InsertJobs(t.Context(), k, []*rollout.Job{j}, now); return err },
		func() error { _, err := postgres.InsertOrders(t.Context(), k, []*rollout.Order{o}, now); return err },
		func() error { _, err := postgres.LockJobs(t.Context(), k, []string{"job-d-1"}); return err },
		func() error {
			_, err := postgres.LockOrders(t.Context(), k, []postgres.OrderKey{postgres.Key(o)})
			return err
		},
		func() error { return postgres.SaveJobs(t.Context(), k, []*rollout.Job{j}) },
		func() error { return postgres.SaveOrders(t.Context(), k, []*rollout.Order{o}) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.plans) < 13 {
		t.Errorf("only %d plans are kept", len(k.plans))
	}
	bad := regexp.MustCompile(`Seq Scan|Merge Join|[Hh]ash|Index.* Scan using \S+ on \S+ .*\n(\s+Filter|\s*->|$)`)
	for _, plan := range k.plans {
		if m := bad.FindString(plan); m != "" {
			t.Errorf("%s in\n%s", m, plan)
		}
	}
}
