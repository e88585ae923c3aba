package postgres_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/advice"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// adviser is a CA that says when to renew.
type adviser struct {
	*moody
	mu    sync.Mutex
	says  ca.RenewalAdvice // guarded by mu
	err   error            // guarded by mu
	asked int              // guarded by mu
}

func (a *adviser) Issuer(context.Context, string) (ca.Issuer, error) { return a, nil }

func (a *adviser) RenewalAdvice(context.Context, []byte) (ca.RenewalAdvice, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	return a.says, a.err
}

func (a *adviser) say(start time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.says, a.err = ca.RenewalAdvice{Start: start, End: start.Add(2 * day), Explanation: "https://ca.example/why", Again: 6 * time.Hour}, err
}

func (a *adviser) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// advised makes the only issuer one that advises.
func (e *engine) advised() (*adviser, *advice.Desk) {
	e.t.Helper()
	e.run(`UPDATE issuers SET type = 'ACME'`)
	a := &adviser{moody: e.ca}
	return a, &advice.Desk{
		Store: e.store, Issuers: a, Clock: e.clock, Log: slog.New(slog.DiscardHandler), Chance: func() float64 { return 0.5 },
	}
}

// holdReal is hold with certificates that can be read, asked about from now on.
func (e *engine) holdReal(holders ...holder) {
	e.t.Helper()
	e.hold(holders...)
	key := catest.NewKey(e.t, "ECDSA P-256").(*ecdsa.PrivateKey)
	template := &x509.Certificate{SerialNumber: x509x.NewSerial(), Subject: pkix.Name{CommonName: "www.example.com"}, NotAfter: e.clock.Now()}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		e.t.Fatal(err)
	}
	e.run(`UPDATE certificate_versions SET pem_chain = $1`, string(x509x.EncodePEM(der)))
	e.run(`UPDATE renewal_advice SET next_ask_at = $1`, e.clock.Now())
}

func (e *engine) ask(d *advice.Desk) {
	e.t.Helper()
	for range 100 {
		more, err := d.Work(e.t.Context())
		if err != nil {
			e.t.Fatal(err)
		}
		if !more {
			return
		}
	}
	e.t.Fatal("there is no end of questions")
}

func (e *engine) plan(id string) issuance.Plan {
	e.t.Helper()
	look, err := e.store.LookAt(e.t.Context(), authn.Scope{}, id)
	if err != nil {
		e.t.Fatal(err)
	}
	plan, err := e.service.Plan(e.t.Context(), &look)
	if err != nil {
		e.t.Fatal(err)
	}
	return plan
}

func TestAdvice_MovesARenewalToTheMomentThatWasDrawn(t *testing.T) {
	e := newEngine(t)
	a, desk := e.advised()
	e.holdReal(holder{id: "mc-1", issued: 10 * day, lifetime: 90 * day})
	e.look()
	start := e.clock.Now().Add(10 * day)
	a.say(start, nil)
	e.ask(desk)
	if plan := e.plan("mc-1"); !plan.At.Equal(start.Add(day)) || !plan.Opens.Equal(plan.At) || !strings.Contains(plan.Reason, "its CA advises") {
		t.Errorf("planned %+v", plan)
	}
	e.look()
	e.clock.Advance(11*day - time.Second)
	e.look()
	if c := e.certificate("mc-1"); c.Status != issuance.Active {
		t.Fatalf("renewed before the moment: %+v", c)
	}
	e.clock.Advance(time.Second)
	e.look()
	if c := e.certificate("mc-1"); c.Status != issuance.RenewalInProgress {
		t.Errorf("not renewed at the moment: %+v", c)
	}
}

func TestAdvice_OfAWindowInThePastRenewsAtOnce(t *testing.T) {
	e := newEngine(t)
	a, desk := e.advised()
	e.holdReal(holder{id: "mc-1", issued: 10 * day, lifetime: 90 * day}, holder{id: "mc-2", issued: 10 * day, lifetime: 90 * day})
	a.say(e.clock.Now().Add(50*day), nil)
	e.ask(desk)
	e.look()
	a.say(e.clock.Now().Add(-3*day), nil)
	e.clock.Advance(6 * time.Hour)
	e.ask(desk)
	e.look()
	for _, id := range []string{"mc-1", "mc-2"} {
		if c := e.certificate(id); c.Status != issuance.RenewalInProgress {
			t.Errorf("%s: %+v", id, c)
		}
	}
}

func TestAdvice_LaterThanThePolicyIsFollowedToo(t *testing.T) {
	e := newEngine(t)
	a, desk := e.advised()
	e.holdReal(holder{id: "mc-1", issued: 50 * day, lifetime: 90 * day})
	a.say(e.clock.Now().Add(30*day), nil)
	e.ask(desk)
	e.clock.Advance(20 * day)
	e.look()
	if c := e.certificate("mc-1"); c.Status == issuance.RenewalInProgress {
		t.Errorf("the policy was followed: %+v", c)
	}
	e.clock.Advance(11 * day)
	e.look()
	if c := e.certificate("mc-1"); c.Status != issuance.RenewalInProgress {
		t.Errorf("nothing was followed: %+v", c)
	}
}

func TestAdvice_IsOfOneVersionAndWithoutItThePolicyHolds(t *testing.T) {
	e := newEngine(t)
	a, desk := e.advised()
	e.holdReal(holder{id: "mc-1", issued: 10 * day, lifetime: 90 * day})
	a.say(e.clock.Now().Add(5*day), nil)
	e.ask(desk)
	c := e.certificate("mc-1")
	k, err := e.store.Advice(t.Context(), "mc-1", c.VersionID)
	if err != nil || k == nil || !k.At.Equal(e.clock.Now().Add(6*day)) || k.Explanation != "https://ca.example/why" {
		t.Errorf("known %+v, %v", k, err)
	}
	// Nobody asks any more about a version that is not the newest.
	e.run(`UPDATE certificates SET version_id = 'cv-2', expires_at = $1`, e.clock.Now().Add(90*day))
	if plan := e.plan("mc-1"); strings.Contains(plan.Reason, "advises") {
		t.Errorf("planned %+v", plan)
	}
	if k, err := e.store.Advice(t.Context(), "mc-1", "cv-2"); err != nil || k != nil {
		t.Errorf("known %+v, %v", k, err)
	}
	e.clock.Advance(day)
	e.ask(desk)
	if _, waiting, err := (postgres.Questions{Store: e.store}).NextDue(t.Context()); a.times() != 1 || waiting || err != nil {
		t.Errorf("asked %d times, waiting %t, %v", a.times(), waiting, err)
	}
}

func TestAdvice_OfACAThatIsAwayHoldsAndTheEngineDoesNotWait(t *testing.T) {
	e := newEngine(t)
	a, desk := e.advised()
	e.holdReal(holder{id: "mc-1", issued: 10 * day, lifetime: 90 * day}, holder{id: "mc-old", issued: 80 * day, lifetime: 90 * day})
	start := e.clock.Now().Add(5 * day)
	a.say(start, nil)
	e.run(`UPDATE renewal_advice SET next_ask_at = NULL WHERE certificate_id = 'mc-old'`)
	e.ask(desk)
	a.say(start, fault.New(fault.Unavailable, "it is away"))
	e.clock.Advance(6 * time.Hour)
	e.ask(desk)
	at, waiting, err := postgres.Questions{Store: e.store}.NextDue(t.Context())
	if err != nil || !waiting || at.Before(e.clock.Now().Add(30*time.Second)) || at.After(e.clock.Now().Add(time.Minute)) {
		t.Errorf("asked again at %s, %t, %v", at, waiting, err)
	}
	if plan := e.plan("mc-1"); !plan.At.Equal(start.Add(day)) {
		t.Errorf("planned %+v", plan)
	}
	e.look()
	if c := e.certificate("mc-old"); c.Status != issuance.RenewalInProgress {
		t.Errorf("without advice: %+v", c)
	}
}

func TestAdvice_IsAskedForOnceOfABatchIfTheCAIsAway(t *testing.T) {
	e := newEngine(t)
	a, desk := e.advised()
	var many []holder
	for i := range 60 {
		many = append(many, holder{id: "mc-" + string(rune('a'+i/26)) + string(rune('a'+i%26)), issued: 10 * day, lifetime: 90 * day})
	}
	e.holdReal(many...)
	a.say(time.Time{}, fault.New(fault.Unavailable, "it is away"))
	e.ask(desk)
	if n := a.times(); n == 0 || n > 16 {
		t.Errorf("asked %d times", n)
	}
}

func TestAdvice_SurvivesAChangeOfThePolicy(t *testing.T) {
	e := newEngine(t)
	a, desk := e.advised()
	e.policy("rp-late", `renewal_window_days = 1, alert_thresholds_days = '{1}'`)
	e.policy("rp-later", `renewal_window_days = 2, alert_thresholds_days = '{2}'`)
	e.holdReal(holder{id: "mc-1", policy: "rp-late", issued: 10 * day, lifetime: 90 * day})
	a.say(e.clock.Now().Add(5*day), nil)
	e.ask(desk)
	e.run(`UPDATE certificates SET renewal_policy_id = 'rp-later'`)
	at, waiting, err := postgres.Looks{Store: e.store}.NextDue(t.Context())
	if err != nil || !waiting || at.After(e.clock.Now().Add(6*day)) {
		t.Errorf("looked at at %s, %t, %v", at, waiting, err)
	}
}

func TestAdvice_IsSoughtFromACMECAsOnly(t *testing.T) {
	e := newEngine(t)
	e.hold(holder{id: "mc-1", issued: 10 * day, lifetime: 90 * day})
	if _, waiting, err := (postgres.Questions{Store: e.store}).NextDue(t.Context()); waiting || err != nil {
		t.Errorf("waiting %t, %v", waiting, err)
	}
}

func TestAdvice_ThatARenewalIsUrgentOverridesTheMaintenanceWindowOnceItIsApproved(t *testing.T) {
	e := newEngine(t)
	a, desk := e.advised()
	e.policy("rp-asked", `approval_required = true,
		maintenance_windows = '[{"weekdays":["Wed"],"start":"01:00","end":"03:00","time_zone":"UTC"}]'`)
	e.holdReal(holder{id: "mc-1", policy: "rp-asked", issued: 10 * day, lifetime: 90 * day})
	a.say(e.clock.Now().Add(-3*day), nil)
	e.ask(desk)
	e.look()
	asked := e.renewals("mc-1")[0]
	if asked.Status != issuance.JobAwaitingApproval {
		t.Fatalf("job %+v", asked)
	}
	if err := e.service.Approve(t.Context(), somebody, issuance.Origin{Actor: somebody.ID}, asked.ID, ""); err != nil {
		t.Fatal(err)
	}
	if j := e.job(asked.ID); j.Status != issuance.JobPending || j.NextActionAt.After(e.clock.Now()) {
		t.Errorf("job %+v", j)
	}
}
