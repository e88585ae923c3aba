package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/issuer/internal/bulk"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// workerURL has the test's program work on bulk operations until it is killed.
const workerURL = "CERTCTL_TEST_BULK_WORKER"

func workUntilKilled(url string) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cfg.ConnConfig.RuntimeParams["search_path"] = "issuer"
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	service := bulkService(pool)
	for {
		if _, err := service.Work(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func bulkService(pool *pgxpool.Pool) *bulk.Service {
	log := slog.New(slog.DiscardHandler)
	store := postgres.New(pool, postgres.Hooks{Told: func() {}, Due: func() {}})
	certificates := issuance.New(store, nil, nil, clock.System, log, issuance.Settings{})
	return bulk.New(store, certificates, clock.System, log, func() {})
}

// everything makes an operation over every certificate.
func (e *engine) everything(s *bulk.Service, a bulk.Action) bulk.Operation {
	e.t.Helper()
	o, err := s.Start(e.t.Context(), somebody, issuance.Origin{Actor: "key-1", CorrelationID: "req-1"}, bulk.Request{
		Action: a, Selection: bulk.Selection{Filter: &issuance.Filter{}},
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return o
}

func (e *engine) operation(id string) bulk.Operation {
	e.t.Helper()
	o, err := e.store.BulkOperation(e.t.Context(), bulk.Viewer{}, id)
	if err != nil {
		e.t.Fatal(err)
	}
	return o
}

func (e *engine) count(sql string) (n int) {
	e.t.Helper()
	if err := e.pool.QueryRow(e.t.Context(), sql).Scan(&n); err != nil {
		e.t.Fatal(err)
	}
	return n
}

// renewable fills the database with certificates that can be renewed, and have no jobs.
func (e *engine) renewable(n int) {
	e.t.Helper()
	e.fill(n)
	for _, sql := range []string{
		`DELETE FROM issuer.jobs`, `UPDATE issuer.certificates SET status = 'Active', version_id = 'cv'`,
	} {
		if _, err := pgtest.Admin(e.t, e.pool).Exec(e.t.Context(), sql); err != nil {
			e.t.Fatal(err)
		}
	}
}

func finish(t *testing.T, s *bulk.Service) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.Work(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBulk_GoesOnAfterItsWorkerWasKilled(t *testing.T) {
	e := newEngine(t)
	const n = 4000
	e.renewable(n)
	service := bulkService(e.pool)
	o := e.everything(service, bulk.Renew)
	worker := exec.Command(os.Args[0])
	worker.Env = append(os.Environ(), workerURL+"="+e.pool.Config().ConnString())
	worker.Stderr = t.Output()
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for e.operation(o.ID).Pending == n {
		select {
		case <-deadline:
			t.Fatal("the worker has done nothing")
		case <-tick.C:
		}
	}
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := worker.Wait(); !errors.As(err, &exit) {
		t.Fatalf("the worker ended: %v", err)
	}
	// The server may not have noticed yet that the connection is gone, and then holds the operation.
	for e.operation(o.ID).Status != bulk.Completed {
		finish(t, service)
		select {
		case <-deadline:
			t.Fatal("the operation was not taken over")
		case <-tick.C:
		}
	}
	if done := e.operation(o.ID); done.Succeeded != n {
		t.Errorf("operation %+v", done)
	}
	if jobs, told := e.count(`SELECT count(DISTINCT certificate_id) FROM jobs`), e.count(`SELECT count(*) FROM outbox`); jobs != n || told != n {
		t.Errorf("%d jobs, %d events, want %d of each", jobs, told, n)
	}
}

func TestBulk_RollsBackABatchThatWasBrokenOff(t *testing.T) {
	e := newEngine(t)
	e.renewable(10)
	service := bulkService(e.pool)
	o := e.everything(service, bulk.Archive)
	_, err := e.store.NextBatch(t.Context(), 5, func(ctx context.Context, b *bulk.Batch) error {
		if len(b.Items) != 5 || b.Operation.ID != o.ID {
			t.Errorf("batch %+v", b)
		}
		// While one works on it, nobody else does.
		if more, err := service.Work(t.Context()); more || err != nil {
			t.Errorf("more %v, error %v", more, err)
		}
		return fault.New(fault.Unavailable, "the lights went out")
	})
	if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("error %v", err)
	}
	if now := e.operation(o.ID); now.Status != bulk.Pending || now.Pending != 10 {
		t.Errorf("operation %+v", now)
	}
	finish(t, service)
	if now := e.operation(o.ID); now.Status != bulk.Completed || now.Succeeded != 10 || now.CompletedAt.IsZero() {
		t.Errorf("operation %+v", now)
	}
}

func TestBulk_StopsWhenItIsCancelled(t *testing.T) {
	e := newEngine(t)
	e.renewable(500)
	service := bulkService(e.pool)
	o := e.everything(service, bulk.Archive)
	if _, err := service.Work(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := e.operation(o.ID); now.Status != bulk.Running || now.Succeeded != 200 || now.Pending != 300 {
		t.Errorf("operation %+v", now)
	}
	stopped, err := service.Cancel(t.Context(), somebody, o.ID)
	if err != nil || stopped.Status != bulk.Cancelled || stopped.Succeeded != 200 || stopped.Cancelled != 300 || stopped.Pending != 0 {
		t.Errorf("operation %+v, error %v", stopped, err)
	}
	finish(t, service)
	if n := e.count(`SELECT count(*) FROM certificates WHERE status = 'Archived'`); n != 200 {
		t.Errorf("%d are archived", n)
	}
	if n := e.count(`SELECT count(*) FROM bulk_items WHERE status = 'Cancelled'`); n != 300 {
		t.Errorf("%d items are cancelled", n)
	}
	if _, err := service.Cancel(t.Context(), somebody, o.ID); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("again: %v", err)
	}
}

// What no item is to blame for ends the operation and says why; the next in line is not held up.
func TestBulk_ThatCannotBeDoneFailsAndLetsOthersPass(t *testing.T) {
	e := newEngine(t)
	e.renewable(10)
	service := bulkService(e.pool)
	if _, err := pgtest.Admin(t, e.pool).Exec(t.Context(), `INSERT INTO issuer.owners (id, name, team_id) VALUES ('o-gone', 'x', 't-default')`); err != nil {
		t.Fatal(err)
	}
	owner := "o-gone"
	doomed, err := service.Start(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, bulk.Request{
		Action: bulk.Reassign, To: bulk.Destination{OwnerID: &owner}, Selection: bulk.Selection{Filter: &issuance.Filter{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	other := e.everything(service, bulk.Archive)
	if _, err := pgtest.Admin(t, e.pool).Exec(t.Context(), `DELETE FROM issuer.owners WHERE id = 'o-gone'`); err != nil {
		t.Fatal(err)
	}
	finish(t, service)
	if now := e.operation(doomed.ID); now.Status != bulk.Failed || now.Error != "the owner or the team that the certificates are to have is gone" || now.Cancelled != 10 {
		t.Errorf("operation %+v", now)
	}
	if now := e.operation(other.ID); now.Status != bulk.Completed || now.Succeeded != 10 {
		t.Errorf("operation %+v", now)
	}
}

// A certificate that has left the scope of who asked is not touched any more.
func TestBulk_JudgesScopeWhenItWorks(t *testing.T) {
	e := newEngine(t)
	e.renewable(10)
	service := bulkService(e.pool)
	team := authn.Principal{ID: "key-2", Kind: authn.KindUser, Scope: authn.Scope{Environments: []string{"env-1", "env-2"}}}
	o, err := service.Start(t.Context(), team, issuance.Origin{Actor: "key-2"}, bulk.Request{
		Action: bulk.Archive, Selection: bulk.Selection{Filter: &issuance.Filter{}},
	})
	if err != nil || o.Total != 2 {
		t.Fatalf("operation %+v, error %v", o, err)
	}
	if _, err := pgtest.Admin(t, e.pool).Exec(t.Context(), `UPDATE issuer.certificates SET environment = 'env-9' WHERE id = 'mc-2'`); err != nil {
		t.Fatal(err)
	}
	finish(t, service)
	if now := e.operation(o.ID); now.Succeeded != 1 || now.Refused != 1 {
		t.Errorf("operation %+v", now)
	}
}

func TestBulk_IsForgottenLongAfterItHasEnded(t *testing.T) {
	e := newEngine(t)
	e.renewable(3)
	service := bulkService(e.pool)
	ended := e.everything(service, bulk.Archive)
	finish(t, service)
	open := e.everything(service, bulk.Archive)
	for i, before := range []time.Time{time.Now().Add(-time.Hour), time.Now().Add(time.Hour)} {
		if n, err := e.store.PruneBulk(t.Context(), before); err != nil || n != int64(i) {
			t.Errorf("before %v: %d, error %v", before, n, err)
		}
	}
	if _, err := e.store.BulkOperation(t.Context(), bulk.Viewer{}, ended.ID); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("error %v", err)
	}
	e.operation(open.ID)
	if n := e.count(`SELECT count(*) FROM bulk_items`); n != 3 {
		t.Errorf("%d items are left", n)
	}
}

// Operations of every kind over the same certificates, by several workers, beside single calls: all end, and each
// certificate's events are numbered without gaps.
func TestBulk_OperationsOverTheSameCertificatesDoNotBlockEachOther(t *testing.T) {
	e := newEngine(t)
	const n = 1000
	e.renewable(n)
	service := bulkService(e.pool)
	owner := "o-default"
	var made []bulk.Operation
	for _, a := range []bulk.Action{bulk.Renew, bulk.Reassign, bulk.Archive, bulk.Renew} {
		o, err := service.Start(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, bulk.Request{
			Action: a, To: bulk.Destination{OwnerID: &owner, Environment: &owner}, Selection: bulk.Selection{Filter: &issuance.Filter{}},
		})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, o)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for more := true; more; {
				var err error
				if more, err = service.Work(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := 1; i <= n; i += 10 {
			err := e.service.Archive(t.Context(), somebody, issuance.Origin{Actor: "key-2"}, fmt.Sprint("mc-", i))
			if err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	finish(t, service)
	for _, o := range made {
		if now := e.operation(o.ID); now.Status != bulk.Completed || now.Succeeded+now.Refused != n || now.Pending != 0 {
			t.Errorf("operation %+v", now)
		}
	}
	if left := e.count(`SELECT count(*) FROM certificates WHERE status <> 'Archived'`); left != 0 {
		t.Errorf("%d are not archived", left)
	}
	if open := e.count(`SELECT count(*) FROM jobs WHERE status NOT IN ('Cancelled', 'Completed')`); open != 0 {
		t.Errorf("%d jobs are open", open)
	}
	gaps := e.count(`SELECT count(*) FROM certificates c WHERE c.version - 1 <> (SELECT count(DISTINCT o.headers->'ce-aggversion'->>0)
		FROM outbox o WHERE o.headers->'ce-subject'->>0 = 'certificate/' || c.id)`)
	if gaps != 0 {
		t.Errorf("the events of %d certificates have gaps", gaps)
	}
}
