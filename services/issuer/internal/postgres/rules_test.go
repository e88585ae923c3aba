package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/policy"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/profile"
	"github.com/certctl/certctl/services/issuer/internal/regulation"
)

func (e *engine) regulation(s regulation.Settings) *regulation.Service {
	return regulation.New(e.store, e.service.Rules(), noTargets{}, e.clock, s)
}

func (e *engine) rule(spec policy.Spec) *policy.Rule {
	e.t.Helper()
	spec.Enabled = true
	r, err := e.regulation(regulation.Settings{}).CreateRule(e.t.Context(), somebody, issuance.Origin{Actor: "key-1"}, spec)
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

func (e *engine) profile(spec profile.Spec) *profile.Profile {
	e.t.Helper()
	spec.Enabled = true
	p, err := e.regulation(regulation.Settings{}).CreateProfile(e.t.Context(), somebody, issuance.Origin{Actor: "key-1"}, spec)
	if err != nil {
		e.t.Fatal(err)
	}
	return p
}

func (e *engine) violations(ruleID string) []postgres.Violation {
	e.t.Helper()
	list, err := e.store.Violations(e.t.Context(), postgres.ViolationQuery{RuleID: &ruleID, Page: postgres.Page{Number: 1, Size: 500}})
	if err != nil {
		e.t.Fatal(err)
	}
	return list.Rows
}

// told counts the events of a type that wait to be published.
func (e *engine) told(ceType string) (n int) {
	e.t.Helper()
	err := e.pool.QueryRow(e.t.Context(), `SELECT count(*) FROM outbox WHERE headers->'ce-type'->>0 = $1`, ceType).Scan(&n)
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}

var nowhere = policy.Spec{
	ID: "pr-nowhere", Name: "Nowhere", Type: policy.AllowedEnvironments, Severity: policy.Error,
	Config: map[string]any{"environments": []any{"nowhere"}},
}

func TestVerdict_OfADeploymentNamesRuleAndValue(t *testing.T) {
	e := newEngine(t)
	c := e.create(signed(t)).Certificate
	ctx := authn.NewContext(t.Context(), somebody)
	if err := e.service.Verdict(ctx, c.ID, policy.Deploy); err != nil {
		t.Errorf("without rules: %v", err)
	}
	warning := nowhere
	warning.ID, warning.Severity = "pr-warning", policy.Warning
	e.rule(warning)
	if err := e.service.Verdict(ctx, c.ID, policy.Deploy); err != nil {
		t.Errorf("a warning: %v", err)
	}
	e.rule(nowhere)
	err := e.service.Verdict(ctx, c.ID, policy.Deploy)
	f := fault.From(err)
	if f == nil || f.Code != fault.Conflict || len(f.Fields) != 1 || f.Fields[0].Name != "environment" || !strings.Contains(f.Message, "pr-nowhere") {
		t.Fatalf("error %+v", f)
	}
	for id, blocked := range map[string]bool{"pr-warning": false, "pr-nowhere": true} {
		v := e.violations(id)
		if len(v) != 1 || v[0].Stage != "deploy" || v[0].Blocked != blocked || v[0].CertificateID != c.ID {
			t.Errorf("%s: %+v", id, v)
		}
	}
	if err := e.service.Verdict(ctx, "mc-none", policy.Deploy); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("no such certificate: %v", err)
	}
	elsewhere := authn.NewContext(t.Context(), authn.Principal{ID: "key-2", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-x"}}})
	if err := e.service.Verdict(elsewhere, c.ID, policy.Deploy); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("out of scope: %v", err)
	}
}

func TestRecord_CountsWhatIsFoundAgainAndTellsOfItOnceADay(t *testing.T) {
	e := newEngine(t)
	e.rule(nowhere)
	const n = 24
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			_, err := e.service.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, issuance.Request{CommonName: "www.example.com"})
			if fault.CodeOf(err) != fault.Conflict {
				t.Errorf("error %v", err)
			}
		})
	}
	wg.Wait()
	const violated = "certctl.policy.violated.v1"
	if v := e.violations("pr-nowhere"); len(v) != 1 || v[0].Count != n || e.told(violated) != 1 {
		t.Errorf("violations %+v, told %d times", v, e.told(violated))
	}
	again := func() {
		if _, err := e.service.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, issuance.Request{CommonName: "www.example.com"}); err == nil {
			t.Error("was created")
		}
	}
	e.clock.Advance(23 * time.Hour)
	again()
	if e.told(violated) != 1 {
		t.Errorf("told %d times within a day", e.told(violated))
	}
	e.clock.Advance(2 * time.Hour)
	again()
	again()
	v := e.violations("pr-nowhere")
	if len(v) != 1 || v[0].Count != n+3 || !v[0].LastSeenAt.Equal(e.clock.Now()) || e.told(violated) != 2 {
		t.Errorf("violations %+v, told %d times", v, e.told(violated))
	}
}

func TestRecord_OfARuleThatWasRemovedIsNothing(t *testing.T) {
	e := newEngine(t)
	e.rule(nowhere)
	refused := func() {
		t.Helper()
		_, err := e.service.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, issuance.Request{CommonName: "www.example.com"})
		if fault.CodeOf(err) != fault.Conflict {
			t.Errorf("error %v", err)
		}
	}
	refused()
	if _, err := pgtest.Admin(t, e.pool).Exec(t.Context(), `DELETE FROM issuer.policy_rules`); err != nil {
		t.Fatal(err)
	}
	// The copy of the rules is not old enough to be looked at again.
	refused()
	e.clock.Advance(time.Second)
	e.create(issuance.Request{CommonName: "www.example.com"})
}

func TestForgetRefused_KeepsWhatIsOfCertificatesAndWhatIsRecent(t *testing.T) {
	e := newEngine(t)
	warning := nowhere
	warning.ID, warning.Severity = "pr-warning", policy.Warning
	e.rule(warning)
	e.create(issuance.Request{CommonName: "kept.example.com"})
	e.rule(nowhere)
	refuse := func(name string) {
		_, err := e.service.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, issuance.Request{CommonName: name})
		if err == nil {
			t.Error("was created")
		}
	}
	refuse("old.example.com")
	e.clock.Advance(80 * 24 * time.Hour)
	refuse("recent.example.com")
	n, err := e.store.ForgetRefused(t.Context(), e.clock.Advance(20*24*time.Hour))
	if err != nil || n != 2 { // of both rules
		t.Errorf("forgot %d, error %v", n, err)
	}
	var names []string
	if err := e.pool.QueryRow(t.Context(), `SELECT array_agg(DISTINCT common_name ORDER BY common_name) FROM policy_violations`).Scan(&names); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"kept.example.com", "recent.example.com"}, names); d != "" {
		t.Error(d)
	}
}

func TestRules_OfAGroupAreForItsAgents(t *testing.T) {
	e := newEngine(t)
	all := nowhere
	all.AgentGroupID = "ag-all"
	none := nowhere
	none.ID, none.AgentGroupID = "pr-none", "ag-none"
	e.rule(all)
	e.rule(none)
	if err := e.store.LearnTarget(t.Context(), issuance.Target{ID: "tgt-1", AgentID: "agent-1", Enabled: true}, e.clock.Now()); err != nil {
		t.Fatal(err)
	}
	// Without a target there is no agent, and so no group.
	e.create(issuance.Request{CommonName: "www.example.com"})
	_, err := e.service.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, issuance.Request{CommonName: "www.example.com", TargetIDs: []string{"tgt-1"}})
	if f := fault.From(err); f == nil || f.Code != fault.Conflict || len(f.Fields) != 1 || !strings.Contains(f.Message, "pr-nowhere") {
		t.Errorf("error %v", err)
	}
}

// A profile is not removed under a certificate that is just being made.
func TestRemoveProfile_LeavesNoCertificateWithoutItsProfile(t *testing.T) {
	e := newEngine(t)
	service := e.regulation(regulation.Settings{})
	for i := range 10 {
		p := e.profile(profile.Spec{ID: fmt.Sprintf("prof-%d", i), Name: "P"})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := e.service.Create(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, issuance.Request{CommonName: "www.example.com", ProfileID: p.ID})
				if code := fault.CodeOf(err); err != nil && code != fault.Invalid && code != fault.Unavailable {
					t.Errorf("create: %v", err)
				}
			})
		}
		wg.Go(func() {
			err := service.DeleteProfile(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, p.ID)
			if err != nil && fault.CodeOf(err) != fault.Conflict {
				t.Errorf("remove: %v", err)
			}
		})
		wg.Wait()
	}
	var orphans int
	err := e.pool.QueryRow(t.Context(), `SELECT count(*) FROM certificates c WHERE certificate_profile_id <> ''
		AND NOT EXISTS (SELECT FROM certificate_profiles WHERE id = c.certificate_profile_id)`).Scan(&orphans)
	if err != nil || orphans != 0 {
		t.Errorf("%d orphans, error %v", orphans, err)
	}
}

func TestUpdateProfile_LosesNoneOfManyChangesAtOnce(t *testing.T) {
	e := newEngine(t)
	p := e.profile(profile.Spec{ID: "prof-1", Name: "P"})
	service := e.regulation(regulation.Settings{})
	anyRevision := func(int64) error { return nil }
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			_, err := service.UpdateProfile(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, p.ID, anyRevision, func(s *profile.Spec) {
				s.RequiredSANs = append(s.RequiredSANs, fmt.Sprintf("pattern-%d", i))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	now, err := e.store.Profile(t.Context(), authn.Scope{}, p.ID)
	if err != nil || len(now.RequiredSANs) != 3 || now.Revision != 4 {
		t.Errorf("profile %+v, error %v", now, err)
	}
	// Of those who have seen the same revision one prevails.
	seen := now.Revision
	var mu sync.Mutex
	outcomes := map[fault.Code]int{}
	for i := range 4 {
		wg.Go(func() {
			_, err := service.UpdateProfile(t.Context(), somebody, issuance.Origin{Actor: "key-1"}, p.ID, func(revision int64) error {
				if revision != seen {
					return fault.New(fault.Precondition, "changed")
				}
				return nil
			}, func(s *profile.Spec) { s.Name = fmt.Sprint("Name ", i) })
			mu.Lock()
			defer mu.Unlock()
			outcomes[fault.CodeOf(err)]++
		})
	}
	wg.Wait()
	if d := cmp.Diff(map[fault.Code]int{"": 1, fault.Precondition: 3}, outcomes); d != "" {
		t.Error(d)
	}
}

// A CA that does as it likes: what it issues is not what the profile allows, or is no certificate at all.
func TestProfile_IsHeldAgainstWhatACAHasIssued(t *testing.T) {
	e := newEngine(t)
	p := e.profile(profile.Spec{ID: "prof-1", Name: "P", MaxTTL: 24 * time.Hour})
	r := signed(t)
	r.ProfileID = p.ID
	created := e.create(r)
	if created.Version != nil || created.Job.Status != issuance.JobFailed || created.Certificate.Status != issuance.Failed {
		t.Errorf("created %+v", created)
	}
}

func TestDryRun_SeesEveryCertificateOnceAcrossBatches(t *testing.T) {
	e := newEngine(t)
	e.fill(25)
	rule, err := regulation.Draft(policy.Spec{Name: "x", Type: policy.AllowedEnvironments, Config: map[string]any{"environments": []any{"env-1"}}})
	if err != nil {
		t.Fatal(err)
	}
	service := e.regulation(regulation.Settings{Batch: 10})
	var evaluated, violating int64
	seen := map[string]bool{}
	after, steps := "", 0
	for {
		run, err := service.DryRun(t.Context(), somebody, rule, after)
		if err != nil {
			t.Fatal(err)
		}
		evaluated, violating, steps = evaluated+run.Evaluated, violating+run.Violating, steps+1
		for _, v := range run.Violations {
			if seen[v.CertificateID] {
				t.Errorf("%s came twice", v.CertificateID)
			}
			seen[v.CertificateID] = true
		}
		if after = run.Next; after == "" {
			break
		}
	}
	if evaluated != 25 || violating != 23 || len(seen) != 23 {
		t.Errorf("%d evaluated, %d violating, %d seen in %d steps", evaluated, violating, len(seen), steps)
	}
}

// ticking is a Store before which time passes.
type ticking struct {
	regulation.Store
	tick func()
}

func (s ticking) Inventory(ctx context.Context, scope authn.Scope, after string, limit int) ([]regulation.Subject, error) {
	s.tick()
	return s.Store.Inventory(ctx, scope, after, limit)
}

func TestDryRun_EndsWhenItsTimeIsUpAndGetsOnAllTheSame(t *testing.T) {
	e := newEngine(t)
	e.fill(5)
	rule, err := regulation.Draft(policy.Spec{Name: "x", Type: policy.AllowedEnvironments, Config: map[string]any{"environments": []any{"none"}}})
	if err != nil {
		t.Fatal(err)
	}
	slow := regulation.New(ticking{e.store, func() { e.clock.Advance(time.Hour) }}, e.service.Rules(), noTargets{}, e.clock, regulation.Settings{Batch: 2})
	var sizes []int64
	for after := ""; ; {
		run, err := slow.DryRun(t.Context(), somebody, rule, after)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, run.Evaluated)
		if after = run.Next; after == "" {
			break
		}
	}
	if d := cmp.Diff([]int64{1, 1, 1, 1, 1}, sizes); d != "" {
		t.Error(d)
	}
}

// deaf is a deployment service that does not answer.
type deaf struct{ noTargets }

func (deaf) InGroup(context.Context, string, string) (bool, error) {
	return false, fault.Wrap(errors.New("no answer"), fault.Unavailable, "deployment is away")
}

func TestDryRun_OfAGroupNeedsItsAgents(t *testing.T) {
	e := newEngine(t)
	if err := e.store.LearnTarget(t.Context(), issuance.Target{ID: "tgt-1", AgentID: "agent-1", Enabled: true}, e.clock.Now()); err != nil {
		t.Fatal(err)
	}
	e.create(issuance.Request{CommonName: "with.example.com", TargetIDs: []string{"tgt-1"}})
	e.create(issuance.Request{CommonName: "without.example.com"})
	spec := nowhere
	for group, want := range map[string]int64{"": 2, "ag-all": 1, "ag-none": 0} {
		spec.AgentGroupID = group
		rule, err := regulation.Draft(spec)
		if err != nil {
			t.Fatal(err)
		}
		run, err := e.regulation(regulation.Settings{}).DryRun(t.Context(), somebody, rule, "")
		if err != nil || run.Violating != want || run.Evaluated != 2 {
			t.Errorf("group %q: %+v, error %v", group, run, err)
		}
	}
	spec.AgentGroupID = "ag-all"
	rule, err := regulation.Draft(spec)
	if err != nil {
		t.Fatal(err)
	}
	away := regulation.New(e.store, e.service.Rules(), deaf{}, e.clock, regulation.Settings{})
	if _, err := away.DryRun(t.Context(), somebody, rule, ""); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("error %v", err)
	}
}

// A thousand certificates a second are asked for: the rules that are held against them must not cost a query each.
func TestCreate_CostsNoMoreQueriesForTheRulesThatItKeeps(t *testing.T) {
	e := newEngine(t)
	e.rule(policy.Spec{ID: "pr-1", Name: "x", Type: policy.AllowedIssuers, Config: map[string]any{"issuer_ids": []any{"iss-local"}}})
	p := e.profile(profile.Spec{ID: "prof-1", Name: "P"})
	traced := &tracer{}
	cfg := e.pool.Config().Copy()
	cfg.ConnConfig.Tracer = traced
	pool := e.open(cfg)
	defer pool.Close()
	e.store = postgres.New(pool, postgres.Hooks{Told: func() {}, Due: func() {}})
	e.service = issuance.New(e.store, e.ca, noTargets{}, e.clock, slog.New(slog.DiscardHandler), issuance.Settings{})
	e.create(issuance.Request{CommonName: "first.example.com", ProfileID: p.ID})
	before := len(traced.statements())
	for i := range 10 {
		e.create(issuance.Request{CommonName: fmt.Sprintf("host-%d.example.com", i), ProfileID: p.ID})
	}
	if after := len(traced.statements()); after != before+10 {
		t.Errorf("%d statements for 10 certificates", after-before)
	}
}

func TestRules_HoldForRenewalsThatBeginOfTheirOwnAccord(t *testing.T) {
	e := newEngine(t)
	e.hold(holder{id: "mc-1", issued: 70 * day, lifetime: 90 * day})
	r := e.rule(nowhere)
	e.look()
	e.look()
	e.work()
	if jobs := e.renewals("mc-1"); len(jobs) != 1 || jobs[0].Status != issuance.JobFailed {
		t.Errorf("jobs %+v", jobs)
	}
	if told := e.eventsOf("mc-1"); !slices.Equal(told, []string{"expiring 30", "requested", "failed", "violated"}) {
		t.Errorf("told %v", told)
	}
	if v := e.violations(r.ID); len(v) != 1 {
		t.Errorf("violations %+v", v)
	}
}
