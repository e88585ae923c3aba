package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// campaignURL has the test's program work on campaigns, and sign, until it is killed.
const campaignURL = "CERTCTL_TEST_CAMPAIGN_WORKER"

// replica is an issuer's work on campaigns and jobs.
type replica struct {
	campaigns    *campaign.Service
	certificates *issuance.Service
}

func newReplica(pool *pgxpool.Pool, c clock.Clock) replica {
	log := slog.New(slog.DiscardHandler)
	store := postgres.New(pool, postgres.Hooks{Told: func() {}, Due: func() {}})
	certificates := issuance.New(store, &moody{clock: c}, nil, c, log, issuance.Settings{})
	reachable := func(context.Context, string) error { return nil }
	return replica{campaign.New(store, certificates, reachable, c, log, func() {}), certificates}
}

func (r replica) work(ctx context.Context) error {
	_, err := r.campaigns.Work(ctx)
	_, signErr := r.certificates.Work(ctx)
	return errors.Join(err, signErr)
}

func campaignUntilKilled(url string) {
	cfg, err := pgxpool.ParseConfig(url)
	if err == nil {
		cfg.ConnConfig.RuntimeParams["search_path"] = "issuer"
		var pool *pgxpool.Pool
		if pool, err = pgxpool.NewWithConfig(context.Background(), cfg); err == nil {
			r := newReplica(pool, clock.System)
			for err == nil {
				err = r.work(context.Background())
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// issued fills the database with certificates whose requesters hold the keys, each with a version.
func (e *engine) issued(n int) {
	e.t.Helper()
	csr := catest.NewCSR(e.t, catest.NewKey(e.t, "ECDSA P-256"), "www.example.com", "www.example.com")
	admin := pgtest.Admin(e.t, e.pool)
	for _, sql := range []string{
		`INSERT INTO issuer.certificates (id, name, common_name, sans, owner_id, team_id, issuer_id, renewal_policy_id, status, version_id,
			expires_at, created_at, updated_at)
		SELECT 'mc-' || i, 'n', 'www.example.com', ARRAY['www.example.com'], 'o-default', 't-default', 'iss-local', 'rp-default', 'Active', 'cv-' || i,
			now() + interval '80 days', now(), now() FROM generate_series(1, $1::int) i`,
		`INSERT INTO issuer.jobs (id, type, certificate_id, status, requested_by, created_at, started_at, completed_at)
		SELECT 'job-i-' || i, 'Issuance', 'mc-' || i, 'Completed', 'key-1', now(), now(), now() FROM generate_series(1, $1::int) i`,
	} {
		if _, err := admin.Exec(e.t.Context(), sql, n); err != nil {
			e.t.Fatal(err)
		}
	}
	_, err := admin.Exec(e.t.Context(), `INSERT INTO issuer.certificate_versions (id, certificate_id, job_id, issuer_id, serial_number, fingerprint_sha256,
			spki_sha256, not_before, not_after, pem_chain, csr_pem, key_algorithm, key_size, created_at, authority_key_id)
		SELECT 'cv-' || i, 'mc-' || i, 'job-i-' || i, 'iss-local', md5(i::text), md5(i::text), '', now(), now() + interval '80 days', 'pem', $2,
			'ECDSA', 256, now(), 'aa' || i % 7 FROM generate_series(1, $1::int) i`, n, csr)
	if err != nil {
		e.t.Fatal(err)
	}
}

func TestCampaign_GoesOnAfterItsReplicaWasKilled(t *testing.T) {
	e := newEngine(t)
	const n = 1500
	e.issued(n)
	// Behind the leases of the one that is killed.
	r := newReplica(e.pool, clock.At(time.Now().Add(5*time.Minute)))
	c, err := r.campaigns.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, campaign.Request{
		Selection: campaign.Selection{IssuerID: "iss-local"}, Settings: campaign.Settings{Name: "x", ReuseCSR: true, WaveSize: 400, InFlight: 250}, Start: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	now := func() campaign.Campaign {
		t.Helper()
		now, err := e.store.Campaign(t.Context(), campaign.Viewer{}, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	worker := exec.Command(os.Args[0])
	worker.Env = append(os.Environ(), campaignURL+"="+e.pool.Config().ConnString())
	worker.Stderr = t.Output()
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	wait := func(what string) {
		t.Helper()
		select {
		case <-deadline:
			t.Fatalf("%s: %+v", what, now())
		case <-tick.C:
		}
	}
	for now().Done < n/4 {
		wait("the replica has done too little")
	}
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := worker.Wait(); !errors.As(err, &exit) {
		t.Fatalf("the replica ended: %v", err)
	}
	for now().Status != campaign.Completed {
		if err := r.work(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait("the campaign was not taken over")
	}
	if end := now(); end.Done != n || end.Failed != 0 {
		t.Errorf("campaign %+v", end)
	}
	if twice := e.count(`SELECT count(*) FROM (SELECT FROM certificate_versions GROUP BY certificate_id HAVING count(*) <> 2) t`); twice != 0 {
		t.Errorf("%d certificates were not re-issued once", twice)
	}
	if jobs := e.count(`SELECT count(*) FROM jobs`); jobs != 2*n {
		t.Errorf("%d jobs", jobs)
	}
	// What is counted as it goes on is what there is.
	if wrong := e.count(`SELECT count(*) FROM campaign_waves w WHERE (w.total, w.done) IS DISTINCT FROM
		(SELECT (count(*)::int, (count(*) FILTER (WHERE status = 'Done'))::int) FROM campaign_items i WHERE i.campaign_id = w.campaign_id AND i.wave = w.number)`); wrong != 0 {
		t.Errorf("%d waves are counted wrongly", wrong)
	}
}

func TestCampaign_IsHeldByOneReplicaAtATimeAndRollsBackWhatWasBrokenOff(t *testing.T) {
	e := newEngine(t)
	e.issued(10)
	r := newReplica(e.pool, clock.System)
	c, err := r.campaigns.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, campaign.Request{
		Selection: campaign.Selection{AuthorityKeyID: "aa1"}, Settings: campaign.Settings{Name: "x", ReuseCSR: true}, Start: true,
	})
	if err != nil || c.Total != 2 {
		t.Fatalf("campaign %+v, error %v", c, err)
	}
	_, err = e.store.Step(t.Context(), c.ID, time.Now(), func(ctx context.Context, step *campaign.Step) error {
		if held, err := e.store.Step(ctx, c.ID, time.Now(), func(context.Context, *campaign.Step) error { return nil }); held || err != nil {
			t.Errorf("held %v, error %v", held, err)
		}
		b, err := step.Take(ctx, 5)
		if err != nil || len(b.Items) != 1 || len(b.Certificates) != 1 {
			t.Errorf("batch %+v, error %v", b, err)
		}
		return fault.New(fault.Unavailable, "the lights went out")
	})
	if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("error %v", err)
	}
	for done := false; !done; {
		if err := r.work(t.Context()); err != nil {
			t.Fatal(err)
		}
		now, err := e.store.Campaign(t.Context(), campaign.Viewer{}, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		done = now.Status == campaign.Completed && now.Done == 2
	}
}

// What no item is to blame for stops the campaign and says why.
func TestCampaign_ThatCannotGoOnStopsItself(t *testing.T) {
	e := newEngine(t)
	e.issued(4)
	r := newReplica(e.pool, clock.System)
	admin := pgtest.Admin(t, e.pool)
	c, err := r.campaigns.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, campaign.Request{
		Selection: campaign.Selection{IssuerID: "iss-local"}, Settings: campaign.Settings{Name: "x", ReuseCSR: true}, Start: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(t.Context(), `UPDATE issuer.campaigns SET to_issuer_id = 'iss-gone'`); err != nil {
		t.Fatal(err)
	}
	if err := r.work(t.Context()); err != nil {
		t.Fatal(err)
	}
	now, err := e.store.Campaign(t.Context(), campaign.Viewer{}, c.ID)
	if err != nil || now.Status != campaign.Stopped || now.Reason != "the issuer that the certificates are to have is gone" || now.Pending != 4 {
		t.Errorf("campaign %+v, error %v", now, err)
	}
}

func TestAuthorities_AreReadFromOldVersions(t *testing.T) {
	e := newEngine(t)
	e.issued(1200)
	e.run(`UPDATE certificate_versions SET authority_key_id = NULL`)
	for more := true; more; {
		var err error
		if more, err = (postgres.Authorities{Store: e.store}).Work(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left := e.count(`SELECT count(*) FROM certificate_versions WHERE authority_key_id IS NULL`); left != 0 {
		t.Errorf("%d are left", left)
	}
}

func TestCampaign_AsksForAKeyOnlyOnceAllKeysAreKnown(t *testing.T) {
	e := newEngine(t)
	e.issued(2500)
	e.run(`UPDATE certificate_versions SET authority_key_id = NULL`)
	r := newReplica(e.pool, clock.System)
	request := campaign.Request{Selection: campaign.Selection{AuthorityKeyID: "aa1"}, Settings: campaign.Settings{Name: "x"}}
	if _, err := r.campaigns.Plan(t.Context(), somebody, request); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("error %v", err)
	}
	if _, err := r.campaigns.Plan(t.Context(), somebody, request); err != nil {
		t.Errorf("error %v", err)
	}
}

// An issuer is tried once, and what it says is the outcome of each certificate that it would have to issue.
func TestRehearsal_TriesEachIssuerOnce(t *testing.T) {
	e := newEngine(t)
	e.issued(450)
	log := slog.New(slog.DiscardHandler)
	tries := 0
	certificates := issuance.New(e.store, e.ca, nil, clock.System, log, issuance.Settings{})
	s := campaign.New(e.store, certificates, func(_ context.Context, issuerID string) error {
		tries++
		return fault.New(fault.Unavailable, "%s does not answer", issuerID)
	}, clock.System, log, func() {})
	c, err := s.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, campaign.Request{
		Selection: campaign.Selection{IssuerID: "iss-local"}, Settings: campaign.Settings{Name: "x", ReuseCSR: true, Rehearsal: true}, Start: true,
	})
	for more := true; more && err == nil; {
		more, err = s.Work(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	now, err := e.store.Campaign(t.Context(), campaign.Viewer{}, c.ID)
	if err != nil || now.Status != campaign.Completed || now.Failed != 450 || tries != 1 {
		t.Errorf("campaign %+v, error %v, %d tries", now, err, tries)
	}
	if why := e.count(`SELECT count(*) FROM campaign_items WHERE status = 'WouldFail' AND reason = 'issuer iss-local cannot be used: iss-local does not answer'`); why != 450 {
		t.Errorf("%d say why", why)
	}
}
