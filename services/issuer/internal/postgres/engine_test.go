package postgres_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(workerURL); url != "" {
		workUntilKilled(url)
	}
	if url := os.Getenv(campaignURL); url != "" {
		campaignUntilKilled(url)
	}
	goleak.VerifyTestMain(pgtest.M{M: m})
}

// moody is a CA that signs unless it is told what to answer instead.
type moody struct {
	mu    sync.Mutex
	err   error // guarded by mu
	asked int   // guarded by mu
	clock clock.Clock
}

func (m *moody) Issuer(_ context.Context, id string) (ca.Issuer, error) {
	if id != "iss-local" {
		return nil, fault.New(fault.NotFound, "there is no issuer %s", id)
	}
	return m, nil
}

func (m *moody) InProcess() {}

func (m *moody) Chain() []*x509.Certificate { return nil }

func (m *moody) answer(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *moody) Issue(context.Context, ca.Request) (ca.Issued, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.err != nil {
		return ca.Issued{}, m.err
	}
	serial := x509x.NewSerial()
	now := m.clock.Now()
	return ca.Issued{
		DER: serial.Bytes(), Serial: new(big.Int).Set(serial), NotBefore: now, NotAfter: now.Add(time.Hour),
		ChainPEM: []byte("pem"),
	}, nil
}

type noTargets struct{}

func (noTargets) Find(_ context.Context, id string) (issuance.Target, error) {
	return issuance.Target{ID: id}, nil
}

// InGroup has every agent in the group ag-all.
func (noTargets) InGroup(_ context.Context, _, groupID string) (bool, error) {
	return groupID == "ag-all", nil
}

type engine struct {
	t       testing.TB
	pool    *pgxpool.Pool
	store   *postgres.Store
	service *issuance.Service
	ca      *moody
	clock   *clock.Manual
}

var somebody = authn.Principal{ID: "key-1", Kind: authn.KindUser}

func newEngine(t testing.TB) *engine {
	t.Helper()
	e := &engine{t: t, pool: pgtest.New(t, migrations.FS("issuer"), "issuer"), clock: clock.At(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))}
	e.ca = &moody{clock: e.clock}
	e.store = postgres.New(e.pool, postgres.Hooks{Told: func() {}, Due: func() {}})
	e.service = issuance.New(e.store, e.ca, noTargets{}, e.clock, slog.New(slog.DiscardHandler), issuance.Settings{})
	e.run(`UPDATE renewal_policies SET retry_interval_seconds = 60, retry_max_interval_seconds = 3600, retry_jitter_percent = 0`)
	return e
}

// run runs a statement as the service.
func (e *engine) run(sql string, args ...any) {
	e.t.Helper()
	if _, err := e.pool.Exec(e.t.Context(), sql, args...); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) create(r issuance.Request) issuance.Created {
	e.t.Helper()
	created, err := e.service.Create(e.t.Context(), somebody, issuance.Origin{Actor: "key-1"}, r)
	if err != nil {
		e.t.Fatal(err)
	}
	return created
}

func (e *engine) work() {
	e.t.Helper()
	if _, err := e.service.Work(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) job(id string) issuance.Job {
	e.t.Helper()
	j, err := e.store.JobByID(e.t.Context(), authn.Scope{}, id)
	if err != nil {
		e.t.Fatal(err)
	}
	return j
}

func (e *engine) certificate(id string) issuance.Certificate {
	e.t.Helper()
	c, err := e.store.Certificate(e.t.Context(), authn.Scope{}, id)
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

func signed(t testing.TB) issuance.Request {
	t.Helper()
	return issuance.Request{
		CommonName: "www.example.com",
		CSRPEM:     catest.NewCSR(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com", "www.example.com"),
	}
}

func TestCA_ThatIsAwayIsAskedAgainLater(t *testing.T) {
	e := newEngine(t)
	e.ca.answer(fault.New(fault.Unavailable, "the CA is on holiday"))
	created := e.create(signed(t))
	if created.Version != nil || created.Job.Status != issuance.JobPending || created.Certificate.Status != issuance.Pending {
		t.Fatalf("created %+v", created)
	}
	reason := e.certificate(created.Certificate.ID).StatusReason
	if !strings.Contains(reason, "on holiday") || !strings.Contains(reason, "next attempt at 2026-11-24T12:01:00Z") {
		t.Errorf("reason %q", reason)
	}
	e.work()
	if e.ca.asked != 1 {
		t.Errorf("asked %d times before it was time", e.ca.asked)
	}
	e.clock.Advance(time.Minute)
	e.work()
	if j := e.job(created.Job.ID); j.Attempts != 2 || j.Status != issuance.JobPending || !j.NextActionAt.Equal(e.clock.Now().Add(2*time.Minute)) {
		t.Errorf("job %+v", j)
	}
	e.ca.answer(nil)
	e.clock.Advance(2 * time.Minute)
	e.work()
	c := e.certificate(created.Certificate.ID)
	if j := e.job(created.Job.ID); j.Attempts != 3 || j.Status != issuance.JobCompleted || c.Status != issuance.Active || c.VersionID == "" || j.LastError != "" {
		t.Errorf("job %+v, certificate %+v", j, c)
	}
}

func TestCA_ThatStaysAwayFailsTheJob(t *testing.T) {
	e := newEngine(t)
	e.ca.answer(fault.New(fault.Unavailable, "the CA is on holiday"))
	created := e.create(signed(t))
	for range 2 {
		e.clock.Advance(time.Hour)
		e.work()
	}
	c := e.certificate(created.Certificate.ID)
	if j := e.job(created.Job.ID); j.Status != issuance.JobFailed || j.Attempts != 3 || c.Status != issuance.Failed ||
		c.StatusReason != "the CA is on holiday; given up after 3 attempts: renew it to try again" {
		t.Errorf("job %+v, certificate %+v", j, c)
	}
	e.clock.Advance(24 * time.Hour)
	e.work()
	if e.ca.asked != 3 {
		t.Errorf("asked %d times", e.ca.asked)
	}
}

func TestCA_ThatRefusesIsNotAskedAgain(t *testing.T) {
	e := newEngine(t)
	e.ca.answer(fault.New(fault.Forbidden, "not for this name"))
	created := e.create(signed(t))
	if j := e.job(created.Job.ID); j.Status != issuance.JobFailed || j.CompletedAt.IsZero() {
		t.Errorf("job %+v", j)
	}
	if c := e.certificate(created.Certificate.ID); c.Status != issuance.Failed || c.Revision != 2 {
		t.Errorf("certificate %+v", c)
	}
	var told []string
	if err := e.pool.QueryRow(t.Context(), `SELECT array_agg(headers->'ce-type'->>0 ORDER BY id) FROM outbox`).Scan(&told); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(told) != "[certctl.certificate.requested.v1 certctl.certificate.failed.v1]" {
		t.Errorf("told %v", told)
	}
}

func TestClaim_GivesEachJobToOneWorker(t *testing.T) {
	e := newEngine(t)
	e.ca.answer(fault.New(fault.Unavailable, "away"))
	const n = 100
	for range n {
		e.create(signed(t))
	}
	now := e.clock.Advance(time.Hour)
	var mu sync.Mutex
	claimed := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				works, err := e.store.Claim(t.Context(), now, now.Add(time.Minute), 7)
				if err != nil {
					t.Error(err)
				}
				if len(works) == 0 {
					return
				}
				mu.Lock()
				for _, w := range works {
					claimed[w.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(claimed) != n {
		t.Errorf("%d of %d jobs claimed", len(claimed), n)
	}
	for id, times := range claimed {
		if times != 1 {
			t.Errorf("%s claimed %d times", id, times)
		}
	}
}

// A worker that was away for longer than its lease comes back with a signature in its hands: another has done the work.
func TestApply_RefusesAWorkerThatHasLostItsLease(t *testing.T) {
	e := newEngine(t)
	e.ca.answer(fault.New(fault.Unavailable, "away"))
	created := e.create(signed(t))
	e.ca.answer(nil)
	now := e.clock.Advance(time.Hour)
	slow, err := e.store.Claim(t.Context(), now, now.Add(time.Minute), 10)
	if err != nil || len(slow) != 1 {
		t.Fatalf("claimed %+v, error %v", slow, err)
	}
	e.work()
	if j := e.job(created.Job.ID); j.Status != issuance.JobRunning {
		t.Fatalf("the lease was not honoured: %+v", j)
	}
	e.clock.Advance(2 * time.Minute)
	e.work()
	done := e.certificate(created.Certificate.ID)
	if done.Status != issuance.Active {
		t.Fatalf("certificate %+v", done)
	}
	late := issuance.Change{
		JobID: created.Job.ID, Token: slow[0].Token, Status: issuance.JobCompleted, At: e.clock.Now(),
		CertificateStatus: issuance.Active,
		Version:           &issuance.Version{ID: "cv-late", IssuerID: "iss-local", SerialNumber: "1", Fingerprint: "f", NotBefore: now, NotAfter: now},
	}
	applied, err := e.store.Apply(t.Context(), []issuance.Change{late})
	if err != nil || len(applied) != 0 {
		t.Errorf("applied %v, error %v", applied, err)
	}
	if after := e.certificate(created.Certificate.ID); after.VersionID != done.VersionID || after.Revision != done.Revision {
		t.Errorf("certificate %+v", after)
	}
}

func TestCreate_FindsOutWhatIsWrongWithOneOfABatch(t *testing.T) {
	e := newEngine(t)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			r := signed(t)
			if i%2 == 0 {
				r.RenewalPolicyID = "rp-none"
			}
			_, err := e.service.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, r)
			if wrong := fault.CodeOf(err) == fault.Invalid; wrong != (i%2 == 0) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
}
