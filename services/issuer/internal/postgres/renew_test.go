package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// holder puts certificates into the database as they are when they were issued at a time for a lifetime. Their key is
// made by an agent, so a renewal waits for it.
type holder struct {
	id, policy       string
	status           issuance.CertificateStatus
	issued, lifetime time.Duration // issued is before now
}

const (
	day   = 24 * time.Hour
	agent = "agent-1"
)

func (e *engine) hold(holders ...holder) {
	e.t.Helper()
	e.run(`INSERT INTO target_agents (target_id, agent_id, enabled, version, updated_at)
		VALUES ('tgt-1', $1, true, 1, now()) ON CONFLICT DO NOTHING`, agent)
	for _, h := range holders {
		from := e.clock.Now().Add(-h.issued)
		if h.status == "" {
			h.status = issuance.Active
		}
		if h.policy == "" {
			h.policy = renewal.Default
		}
		e.run(`WITH c AS (
				INSERT INTO certificates (id, name, common_name, sans, owner_id, team_id, issuer_id, renewal_policy_id, status,
					version_id, serial_number, fingerprint_sha256, expires_at, created_at, updated_at)
				VALUES ($1, $1, 'www.example.com', '{www.example.com}', 'o-default', 't-default', 'iss-local', $2, $3,
					'cv-' || $1, $1, $1, $5, $4, $4) RETURNING id
			), j AS (
				INSERT INTO jobs (id, type, certificate_id, status, requested_by, created_at, completed_at)
				SELECT 'job-i-first-' || id, 'Issuance', id, 'Completed', 'key-1', $4, $4 FROM c
			), t AS (
				INSERT INTO certificate_targets (certificate_id, target_id, position, version_id) SELECT id, 'tgt-1', 1, 'cv-' || id FROM c
			)
			INSERT INTO certificate_versions (id, certificate_id, job_id, issuer_id, serial_number, fingerprint_sha256, spki_sha256,
				not_before, not_after, pem_chain, csr_pem, key_algorithm, key_size, created_at)
			SELECT 'cv-' || id, id, 'job-i-first-' || id, 'iss-local', id, id, '', $4, $5, '', '', 'ECDSA', 256, $4 FROM c`,
			h.id, h.policy, string(h.status), from, from.Add(h.lifetime))
	}
}

func (e *engine) policy(id string, sets string) {
	e.t.Helper()
	e.run(`INSERT INTO renewal_policies (id, name) VALUES ($1, $1) ON CONFLICT DO NOTHING`, id)
	e.run(`UPDATE renewal_policies SET `+sets+` WHERE id = $1`, id)
	e.service.Rules().Forget()
}

// look has the engine look until nothing is due.
func (e *engine) look() {
	e.t.Helper()
	for range 100 {
		if _, err := (issuance.Renewals{Service: e.service}).Work(e.t.Context()); err != nil {
			e.t.Fatal(err)
		}
		at, waiting, err := postgres.Looks{Store: e.store}.NextDue(e.t.Context())
		if err != nil {
			e.t.Fatal(err)
		}
		if !waiting || at.After(e.clock.Now()) {
			return
		}
	}
	e.t.Fatal("the engine looks and looks, and never is done")
}

// eventsOf lists the events of a certificate in their order, with what tells them apart.
func (e *engine) eventsOf(certificateID string) []string {
	e.t.Helper()
	var out []string
	err := e.pool.QueryRow(e.t.Context(), `SELECT COALESCE(array_agg(split_part(headers->'ce-type'->>0, '.', 3)
			|| COALESCE(' ' || (convert_from(body, 'UTF8')::jsonb->>'threshold'), '')
			|| COALESCE(' with a key of ' || (convert_from(body, 'UTF8')::jsonb->'key_request'->>'agent_id'), '') ORDER BY id), '{}')
		FROM outbox WHERE convert_from(body, 'UTF8')::jsonb->>'certificate_id' = $1`, certificateID).Scan(&out)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// versionsTold are the versions of a certificate that its events tell of, in their order.
func (e *engine) versionsTold(certificateID string) (out []string) {
	e.t.Helper()
	err := e.pool.QueryRow(e.t.Context(), `SELECT array_agg(headers->'ce-aggversion'->>0 ORDER BY id)
		FROM outbox WHERE convert_from(body, 'UTF8')::jsonb->>'certificate_id' = $1`, certificateID).Scan(&out)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

func (e *engine) renewals(certificateID string) []issuance.Job {
	e.t.Helper()
	kind := "Renewal"
	list, err := e.store.Jobs(e.t.Context(), postgres.JobQuery{CertificateID: &certificateID, Type: &kind, Page: postgres.Page{Number: 1, Size: 50}})
	if err != nil {
		e.t.Fatal(err)
	}
	return list.Rows
}

// A policy with a group holds for some of its certificates only, and the default policy for the others.
func TestPolicies_KnowHowEarlySomethingFallsDueUnderThem(t *testing.T) {
	e := newEngine(t)
	leads := func(want string) {
		t.Helper()
		var got string
		err := e.pool.QueryRow(t.Context(), `SELECT string_agg(COALESCE(extract(days FROM justify_hours(lead))::text, 'unknown'), ' ' ORDER BY id)
			FROM renewal_policies`).Scan(&got)
		if err != nil || got != want {
			t.Errorf("leads of %s days, want %s, error %v", got, want, err)
		}
	}
	e.policy("rp-early", "renewal_window_days = 29")
	e.policy("rp-group", "renewal_window_days = 3, alert_thresholds_days = '{1}', agent_group_id = 'ag-all'")
	e.run(`UPDATE renewal_policies SET alert_thresholds_days = '{7}' WHERE id <> 'rp-group'`)
	e.run(`UPDATE renewal_policies SET renewal_window_days = 20 WHERE id = 'rp-default'`)
	leads("20 29 20")
	e.run(`UPDATE renewal_policies SET renewal_window_percent = 50 WHERE id = 'rp-early'`)
	leads("20 unknown 20")
	e.run(`UPDATE renewal_policies SET agent_group_id = '' WHERE id = 'rp-group'`)
	leads("20 unknown 3")
}

func TestEngine_RenewsWhatIsDueByItsPolicy(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-manual", "auto_renew = false")
	e.policy("rp-late", "renewal_window_days = 3")
	e.policy("rp-share", "renewal_window_percent = 60")
	e.hold(
		holder{id: "mc-due", issued: 70 * day, lifetime: 90 * day},
		holder{id: "mc-fresh", issued: 10 * day, lifetime: 90 * day},
		holder{id: "mc-manual", policy: "rp-manual", issued: 85 * day, lifetime: 90 * day},
		holder{id: "mc-late", policy: "rp-late", issued: 70 * day, lifetime: 90 * day},
		holder{id: "mc-share", policy: "rp-share", issued: 50 * day, lifetime: 90 * day},
	)
	e.look()
	for id, want := range map[string]int{"mc-due": 1, "mc-fresh": 0, "mc-manual": 0, "mc-late": 0, "mc-share": 1} {
		if n := len(e.renewals(id)); n != want {
			t.Errorf("%s: %d renewals, want %d", id, n, want)
		}
	}
	j := e.renewals("mc-due")[0]
	if c := e.certificate("mc-due"); c.Status != issuance.RenewalInProgress || j.Status != issuance.JobAwaitingCSR || j.AgentID != agent || j.Origin.Actor != issuance.System || j.MaxAttempts != 3 {
		t.Errorf("certificate %+v, job %+v", c, j)
	}
	if diff := cmp.Diff([]string{"expiring 30", "requested with a key of " + agent}, e.eventsOf("mc-due")); diff != "" {
		t.Error(diff)
	}
	if versions := e.versionsTold("mc-due"); !slices.Equal(versions, []string{"2", "3"}) {
		t.Errorf("the events tell of versions %v of the certificate", versions)
	}
}

func TestEngine_NeverRenewsARevokedOrArchivedCertificate(t *testing.T) {
	e := newEngine(t)
	e.hold(
		holder{id: "mc-revoked", status: issuance.Revoked, issued: 85 * day, lifetime: 90 * day},
		holder{id: "mc-archived", status: issuance.Archived, issued: 85 * day, lifetime: 90 * day},
		holder{id: "mc-later", issued: 10 * day, lifetime: 90 * day},
	)
	e.run(`UPDATE certificates SET status = 'Revoked' WHERE id = 'mc-later'`)
	for range 5 {
		e.look()
		e.clock.Advance(30 * day)
	}
	if n := e.count(`SELECT count(*) FROM jobs WHERE type = 'Renewal'`); n != 0 {
		t.Errorf("%d renewals", n)
	}
	if n := e.count(`SELECT count(*) FROM outbox`); n != 0 {
		t.Errorf("%d events", n)
	}
	if _, waiting, err := (postgres.Looks{Store: e.store}).NextDue(t.Context()); err != nil || waiting {
		t.Errorf("something is waited for: %v", err)
	}
}

func TestEngine_TellsOfThresholdsOncePerVersionAndSetsTheStatesOfTime(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-manual", "auto_renew = false")
	e.hold(
		holder{id: "mc-1", policy: "rp-manual", issued: 0, lifetime: 90 * day},
		holder{id: "mc-seen-late", policy: "rp-manual", issued: 85 * day, lifetime: 90 * day},
	)
	states := []string{}
	for range 95 {
		e.look()
		if s := string(e.certificate("mc-1").Status); len(states) == 0 || states[len(states)-1] != s {
			states = append(states, s)
		}
		e.clock.Advance(day)
	}
	if diff := cmp.Diff([]string{"Active", "Expiring", "Expired"}, states); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"expiring 30", "expiring 14", "expiring 7", "expired"}, e.eventsOf("mc-1")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"expiring 7", "expired"}, e.eventsOf("mc-seen-late")); diff != "" {
		t.Error(diff)
	}
	// A further version begins anew.
	e.run(`UPDATE certificates SET version_id = 'cv-2', status = 'Active', expires_at = $1 WHERE id = 'mc-1'`, e.clock.Now().Add(20*day))
	e.look()
	if told := e.eventsOf("mc-1"); told[len(told)-1] != "expiring 30" {
		t.Errorf("told %v", told)
	}
}

func TestEngine_BeginsAFailedRenewalAnewTheNextDay(t *testing.T) {
	e := newEngine(t)
	e.policy(renewal.Default, "max_retries = 1")
	e.hold(holder{id: "mc-1", issued: 70 * day, lifetime: 90 * day})
	e.look()
	e.work()
	e.clock.Advance(time.Hour) // The agent does not answer.
	e.work()
	c := e.certificate("mc-1")
	if j := e.renewals("mc-1")[0]; j.Status != issuance.JobFailed || c.Status != issuance.Failed || !strings.Contains(c.StatusReason, "did not answer") {
		t.Fatalf("job %+v, certificate %+v", j, c)
	}
	e.look()
	e.clock.Advance(23 * time.Hour)
	e.look()
	if n := len(e.renewals("mc-1")); n != 1 {
		t.Errorf("%d renewals on the same day", n)
	}
	e.clock.Advance(2 * time.Hour)
	e.look()
	if jobs := e.renewals("mc-1"); len(jobs) != 2 || jobs[0].Status != issuance.JobAwaitingCSR || e.certificate("mc-1").Status != issuance.RenewalInProgress {
		t.Errorf("the next day: %+v", jobs)
	}
}

func TestEngine_LetsAFailedCertificateExpire(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-manual", "auto_renew = false")
	e.hold(holder{id: "mc-1", policy: "rp-manual", status: issuance.Failed, issued: 89 * day, lifetime: 90 * day})
	e.run(`UPDATE certificates SET status_reason = 'the CA is away'`)
	e.look()
	e.clock.Advance(2 * day)
	e.look()
	if c := e.certificate("mc-1"); c.Status != issuance.Expired || c.StatusReason != "the CA is away" {
		t.Errorf("certificate %+v", c)
	}
}

func TestEngine_WaitsForTheMaintenanceWindowAndSaysWhenNoneFits(t *testing.T) {
	e := newEngine(t) // It is Tuesday, 2026-11-24 12:00 UTC.
	e.policy("rp-night", `maintenance_windows = '[{"weekdays":["Wed"],"start":"01:00","end":"03:00","time_zone":"Europe/Berlin"}]'`)
	e.hold(
		holder{id: "mc-1", policy: "rp-night", issued: 70 * day, lifetime: 90 * day},
		holder{id: "mc-tight", policy: "rp-night", issued: 90*day - 6*time.Hour, lifetime: 90 * day},
	)
	e.look()
	if n := len(e.renewals("mc-1")); n != 0 {
		t.Errorf("%d renewals before the window", n)
	}
	c := e.certificate("mc-tight")
	if n := len(e.renewals("mc-tight")); n != 1 || !strings.Contains(c.StatusReason, "no maintenance window of policy rp-night opens in time") {
		t.Errorf("%d renewals of what no window fits: %s", n, c.StatusReason)
	}
	at, _, err := postgres.Looks{Store: e.store}.NextDue(t.Context())
	if want := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC); err != nil || at.After(want) {
		t.Errorf("looks next at %s, error %v", at, err)
	}
	e.clock.Set(time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC))
	e.look()
	if n := len(e.renewals("mc-1")); n != 1 {
		t.Errorf("%d renewals within the window", n)
	}
}

func TestEngine_NoticesThatAPolicyHasChanged(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-1", "auto_renew = false")
	e.policy("rp-2", "renewal_window_days = 80, alert_thresholds_days = '{}'")
	e.hold(
		holder{id: "mc-switched-on", policy: "rp-1", issued: 75 * day, lifetime: 90 * day},
		holder{id: "mc-moved", policy: "rp-1", issued: 20 * day, lifetime: 90 * day},
		holder{id: "mc-over", policy: "rp-1", issued: 91 * day, lifetime: 90 * day},
	)
	e.look()
	if n := e.count(`SELECT count(*) FROM jobs WHERE type = 'Renewal'`); n != 0 {
		t.Fatalf("%d renewals", n)
	}
	e.policy("rp-1", "auto_renew = true")
	e.run(`UPDATE certificates SET renewal_policy_id = 'rp-2' WHERE id = 'mc-moved'`)
	e.look()
	for _, id := range []string{"mc-switched-on", "mc-moved", "mc-over"} {
		if n := len(e.renewals(id)); n != 1 {
			t.Errorf("%s: %d renewals", id, n)
		}
	}
}

// A policy may hold for more certificates than one statement goes through, and change again meanwhile.
func TestReschedule_GoesThroughEveryCertificateOfAPolicy(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-1", "auto_renew = false")
	const n = 25
	for i := range n {
		e.hold(holder{id: fmt.Sprintf("mc-%d", i), policy: "rp-1", issued: 20*day + time.Duration(i%3)*time.Hour, lifetime: 90 * day})
	}
	e.hold(holder{id: "mc-other", issued: 20 * day, lifetime: 90 * day})
	e.look()
	e.policy("rp-1", "renewal_window_days = 60")
	if _, err := e.store.Reschedule(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	e.policy("rp-1", "renewal_window_days = 80")
	through := 0
	for {
		k, err := e.store.Reschedule(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		if through += k; k == 0 {
			break
		}
	}
	if through != n {
		t.Errorf("went through %d of %d", through, n)
	}
	if due := e.count(`SELECT count(*) FROM certificates WHERE next_action_at = expires_at - interval '80 days'`); due != n {
		t.Errorf("%d of %d are looked at anew", due, n)
	}
	if open := e.count(`SELECT count(*) FROM reschedules`); open != 0 {
		t.Errorf("%d policies are not done with", open)
	}
	e.run(`UPDATE renewal_policies SET name = 'another', max_retries = 9`)
	if k, err := e.store.Reschedule(t.Context(), 10); err != nil || k != 0 {
		t.Errorf("a new name has %d certificates looked at, error %v", k, err)
	}
}

func TestEngine_BoundsTheRenewalsOfAnIssuer(t *testing.T) {
	e := newEngine(t)
	e.service = issuance.New(e.store, e.ca, noTargets{}, e.clock, slog.New(slog.DiscardHandler), issuance.Settings{MaxRenewals: 3})
	for i := range 10 {
		e.hold(holder{id: fmt.Sprintf("mc-%d", i), issued: 85 * day, lifetime: 90 * day})
	}
	open := func() int {
		return e.count(`SELECT count(*) FROM jobs WHERE type = 'Renewal' AND status IN ('Pending', 'AwaitingCSR', 'Running')`)
	}
	e.look()
	if n := open(); n != 3 {
		t.Fatalf("%d under way", n)
	}
	e.clock.Advance(time.Minute)
	e.look()
	if n := open(); n != 3 {
		t.Fatalf("%d under way a minute later", n)
	}
	var done string
	if err := e.pool.QueryRow(t.Context(), `SELECT id FROM jobs WHERE type = 'Renewal' LIMIT 1`).Scan(&done); err != nil {
		t.Fatal(err)
	}
	if err := e.service.Cancel(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, done); err != nil {
		t.Fatal(err)
	}
	e.clock.Advance(time.Minute)
	e.look()
	if n := open(); n != 3 {
		t.Errorf("%d under way after one has ended", n)
	}
	if n := e.count(`SELECT count(*) FROM jobs WHERE type = 'Renewal'`); n != 4 {
		t.Errorf("%d renewals in all", n)
	}
}

// Any number of engines on one database: each certificate is renewed once, and told of once.
func TestEngines_RenewEachOfFiveHundredDueCertificatesOnce(t *testing.T) {
	e := newEngine(t)
	const n = 500
	holders := make([]holder, n)
	for i := range holders {
		holders[i] = holder{id: fmt.Sprintf("mc-%d", i), issued: 80 * day, lifetime: 90 * day}
	}
	e.hold(holders...)
	var wg sync.WaitGroup
	for range 2 {
		store := postgres.New(e.pool, postgres.Hooks{Told: func() {}, Due: func() {}})
		service := issuance.New(store, e.ca, noTargets{}, e.clock, slog.New(slog.DiscardHandler), issuance.Settings{MaxRenewals: n})
		wg.Go(func() {
			for {
				if _, err := (issuance.Renewals{Service: service}).Work(t.Context()); err != nil {
					t.Error(err)
					return
				}
				at, waiting, err := postgres.Looks{Store: store}.NextDue(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if !waiting || at.After(e.clock.Now()) {
					return
				}
			}
		})
	}
	wg.Wait()
	if got := e.count(`SELECT count(*) FROM jobs WHERE type = 'Renewal'`); got != n {
		t.Errorf("%d renewals of %d certificates", got, n)
	}
	if got := e.count(`SELECT count(DISTINCT certificate_id) FROM jobs WHERE type = 'Renewal'`); got != n {
		t.Errorf("%d certificates of %d are renewed", got, n)
	}
	if odd := e.count(`SELECT count(*) FROM certificates WHERE version <> 3 OR status <> 'RenewalInProgress'`); odd != 0 {
		t.Errorf("%d certificates were told of otherwise than twice", odd)
	}
}

func TestPolicy_WithAGroupHoldsForAgentsOfTheGroupOnly(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-in", "agent_group_id = 'ag-all', auto_renew = false")
	e.policy("rp-out", "agent_group_id = 'ag-other', auto_renew = false, approval_required = true")
	e.hold(
		holder{id: "mc-in", policy: "rp-in", issued: 70 * day, lifetime: 90 * day},
		holder{id: "mc-out", policy: "rp-out", issued: 70 * day, lifetime: 90 * day},
	)
	e.look()
	if n := len(e.renewals("mc-in")); n != 0 {
		t.Errorf("%d renewals of what its policy leaves alone", n)
	}
	jobs := e.renewals("mc-out")
	if len(jobs) != 1 || jobs[0].PolicyID != renewal.Default || jobs[0].Status != issuance.JobAwaitingCSR {
		t.Errorf("rp-default does not hold outside of the group: %+v", jobs)
	}
	look, err := e.store.LookAt(t.Context(), somebody.Scope, "mc-out")
	if err != nil {
		t.Fatal(err)
	}
	if plan, err := e.service.Plan(t.Context(), &look); err != nil || plan.PolicyID != renewal.Default || !plan.At.IsZero() || plan.Reason == "" {
		t.Errorf("plan %+v, error %v", plan, err)
	}
}

// Its key is its owner's, so the renewal that begins of its own accord waits for a request: one that is handed in as if
// none had begun is taken, and without any the certificate ends as one that has ended.
func TestEngine_AsksTheOwnerOfAKeyForARequest(t *testing.T) {
	e := newEngine(t)
	e.hold(
		holder{id: "mc-answered", issued: 70 * day, lifetime: 90 * day},
		holder{id: "mc-unanswered", issued: 70 * day, lifetime: 90 * day},
	)
	e.run(`DELETE FROM certificate_targets`)
	e.look()
	for _, id := range []string{"mc-answered", "mc-unanswered"} {
		if jobs := e.renewals(id); len(jobs) != 1 || jobs[0].Status != issuance.JobAwaitingCSR || e.certificate(id).Status != issuance.RenewalInProgress {
			t.Fatalf("%s: %+v", id, jobs)
		}
	}
	renewed, err := e.service.Renew(t.Context(), somebody, issuance.Origin{Actor: somebody.ID}, "mc-answered", signed(t).CSRPEM)
	if err != nil || renewed.Version == nil || renewed.JobID != e.renewals("mc-answered")[0].ID {
		t.Errorf("renewed %+v, error %v", renewed, err)
	}
	if _, err := e.service.Renew(t.Context(), somebody, issuance.Origin{Actor: somebody.ID}, "mc-unanswered", ""); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("renewed without a request: %v", err)
	}
	for range 22 {
		e.clock.Advance(day)
		e.work()
		e.look()
	}
	c, jobs := e.certificate("mc-unanswered"), e.renewals("mc-unanswered")
	if c.Status != issuance.Expired || len(jobs) != 1 || jobs[0].Status != issuance.JobFailed || !strings.Contains(c.StatusReason, "no signing request") {
		t.Errorf("certificate %+v, jobs %+v", c, jobs)
	}
}

// absent is a deployment service that does not answer.
type absent struct{ noTargets }

func (absent) InGroup(context.Context, string, string) (bool, error) {
	return false, fault.New(fault.Unavailable, "away")
}

func TestEngine_LeavesAloneWhatItCannotTellThePolicyOf(t *testing.T) {
	e := newEngine(t)
	e.policy("rp-in", "agent_group_id = 'ag-all'")
	e.hold(
		holder{id: "mc-group", policy: "rp-in", issued: 70 * day, lifetime: 90 * day},
		holder{id: "mc-plain", issued: 70 * day, lifetime: 90 * day},
	)
	there := e.service
	e.service = issuance.New(e.store, e.ca, absent{}, e.clock, slog.New(slog.DiscardHandler), issuance.Settings{})
	e.look()
	if group, plain := len(e.renewals("mc-group")), len(e.renewals("mc-plain")); group != 0 || plain != 1 {
		t.Errorf("%d and %d renewals", group, plain)
	}
	e.service = there
	e.clock.Advance(10 * time.Minute)
	e.look()
	if n := len(e.renewals("mc-group")); n != 1 {
		t.Errorf("%d renewals once deployment answers", n)
	}
}
