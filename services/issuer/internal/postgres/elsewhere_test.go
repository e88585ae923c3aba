package postgres_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/policy"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// afar is a CA elsewhere. It does what its mood is, and keeps what it was asked.
type afar struct {
	clock clock.Clock

	mu    sync.Mutex
	mood  func(ctx context.Context, n int, r ca.Request) error // guarded by mu
	asked int                                                  // guarded by mu
	at    int                                                  // requests under way; guarded by mu
	most  int                                                  // of these at any time; guarded by mu
}

func (a *afar) Chain() []*x509.Certificate { return nil }

func (a *afar) Issue(ctx context.Context, r ca.Request) (ca.Issued, error) {
	a.mu.Lock()
	a.asked++
	a.at++
	a.most = max(a.most, a.at)
	n, mood := a.asked, a.mood
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.at--
		a.mu.Unlock()
	}()
	if mood != nil {
		if err := mood(ctx, n, r); err != nil {
			return ca.Issued{}, err
		}
	}
	return (&moody{clock: a.clock}).Issue(ctx, r)
}

func (a *afar) is(mood func(ctx context.Context, n int, r ca.Request) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mood = mood
}

func (a *afar) times() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func answers(err error) func(context.Context, int, ca.Request) error {
	return func(context.Context, int, ca.Request) error { return err }
}

// hangs answers nothing until it is told to, or the request is given up.
func hangs(until <-chan struct{}) func(context.Context, int, ca.Request) error {
	return func(ctx context.Context, _ int, _ ca.Request) error {
		select {
		case <-until:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// world is the CAs that there are, nil those that cannot be opened.
type world map[string]ca.Issuer

func (w world) Issuer(_ context.Context, id string) (ca.Issuer, error) {
	if l, ok := w[id].(limiting); ok {
		return nil, l.err
	}
	if i, ok := w[id]; ok && i != nil {
		return i, nil
	} else if ok {
		return nil, fault.New(fault.Unavailable, "the directory cannot be read: connection refused")
	}
	return nil, fault.New(fault.NotFound, "there is no issuer %s", id)
}

// limiting is a CA that limits who opens it.
type limiting struct {
	*afar
	err error
}

// outward is an engine with CAs elsewhere: iss-afar and iss-other.
type outward struct {
	*engine
	afar, other *afar
	world       world
	// patience is how long a CA may take; zero is the default.
	patience time.Duration
}

func newOutward(t *testing.T) *outward {
	t.Helper()
	e := newEngine(t)
	o := &outward{engine: e, afar: &afar{clock: e.clock}, other: &afar{clock: e.clock}}
	o.world = world{"iss-local": e.ca, "iss-afar": o.afar, "iss-other": o.other}
	e.run(`INSERT INTO issuers (id, name, type) VALUES ('iss-afar', 'Afar', 'ACME'), ('iss-other', 'Other', 'ACME')`)
	e.service = o.replica()
	return o
}

// replica is another service on the same schema. It is stopped when the test ends.
func (o *outward) replica() *issuance.Service {
	s := issuance.New(o.store, o.world, noTargets{}, o.clock, slog.New(slog.DiscardHandler), issuance.Settings{
		Chance: func() float64 { return 0 }, AnswerTimeout: o.patience,
	})
	o.t.Cleanup(func() { stop(s) })
	return s
}

// stop ends what a service asks of CAs.
func stop(s *issuance.Service) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Hold(ended)
}

func (o *outward) request(name string) issuance.Created {
	o.t.Helper()
	r := signed(o.t)
	r.Name, r.IssuerID = name, "iss-afar"
	return o.create(r)
}

func (o *outward) await(what string, condition func() bool) {
	o.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ; !condition(); <-tick.C {
		if time.Now().After(deadline) {
			o.t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// goOn works on what is due now, and waits until no CA is being asked.
func (o *outward) goOn() {
	o.t.Helper()
	for range 100 {
		o.work()
		o.await("the CAs to have answered", func() bool { return o.count(`SELECT count(*) FROM jobs WHERE status = 'Running'`) == 0 })
		if next, waiting, err := o.store.NextDue(o.t.Context()); err != nil || !waiting || next.After(o.clock.Now()) {
			return
		}
	}
	o.t.Fatal("there is always something due")
}

// live lets time pass until the end of a duration, and works whenever something falls due.
func (o *outward) live(d time.Duration) {
	o.t.Helper()
	end := o.clock.Now().Add(d)
	for {
		o.goOn()
		next, waiting, err := o.store.NextDue(o.t.Context())
		if err != nil {
			o.t.Fatal(err)
		}
		if !waiting || next.After(end) {
			o.clock.Set(end)
			return
		}
		o.clock.Set(next)
	}
}

func (o *outward) versions(certificateID string) int {
	o.t.Helper()
	return o.count(`SELECT count(*) FROM certificate_versions WHERE certificate_id = '` + certificateID + `'`)
}

func (o *outward) health(issuerID string) postgres.IssuerStanding {
	o.t.Helper()
	found, err := o.store.Standings(o.t.Context(), []string{issuerID}, o.clock.Now())
	if err != nil {
		o.t.Fatal(err)
	}
	return found[issuerID]
}

func TestElsewhere_ACAThatHangsHoldsUpNobodyAndIsGoneOnWithAfterAStop(t *testing.T) {
	o := newOutward(t)
	o.afar.is(hangs(nil))
	slow := o.request("slow")
	if slow.Version != nil || slow.Job.Status != issuance.JobPending {
		t.Fatalf("the request waited for the CA: %+v", slow)
	}
	o.run(`UPDATE jobs SET attempts = 0`)
	o.work()
	o.await("the CA to be asked", func() bool { return o.afar.times() == 1 })
	if local := o.create(signed(t)); local.Version == nil {
		t.Error("another CA's certificate waits")
	}
	if h := o.health("iss-afar"); h.UnderWay != 1 {
		t.Errorf("shown as %+v", h)
	}
	// Another replica leaves it alone as long as its lease is held.
	o.clock.Advance(50 * time.Second)
	other := o.replica()
	if _, err := other.Work(t.Context()); err != nil || o.afar.times() != 1 {
		t.Errorf("asked %d times: %v", o.afar.times(), err)
	}
	stop(o.service)
	j := o.job(slow.Job.ID)
	if j.Status != issuance.JobPending || j.Attempts != 0 || j.NextActionAt.After(o.clock.Now()) {
		t.Errorf("after the stop: %+v", j)
	}
	o.afar.is(nil)
	o.service = other
	o.goOn()
	if c := o.certificate(slow.Certificate.ID); c.Status != issuance.Active || o.versions(c.ID) != 1 {
		t.Errorf("in the end: %+v", c)
	}
}

// TestElsewhere_ACAThatMisbehavesForTenMinutesLosesAndDoublesNothing lets it do so in every way there is.
func TestElsewhere_ACAThatMisbehavesForTenMinutesLosesAndDoublesNothing(t *testing.T) {
	limited := fault.New(fault.RateLimited, "the CA asks to slow down")
	limited.RetryAfter = 90 * time.Second
	for name, err := range map[string]error{
		"HTTP 500":                      fault.New(fault.Unavailable, "the CA failed with HTTP 500"),
		"HTTP 429":                      limited,
		"garbage":                       fault.New(fault.Unavailable, "the CA's answer is no chain of certificates"),
		"somebody else's certificate":   fault.New(fault.Unavailable, "the CA answered with a certificate for another key"),
		"an error that nobody foresaw":  fmt.Errorf("a nil map"),
		"an answer that never comes":    context.DeadlineExceeded,
		"a connection that is cut off":  fault.New(fault.Unavailable, "the CA broke off its answer"),
		"an order that it takes and no": fault.New(fault.Unavailable, "the connection was closed"),
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutward(t)
			o.afar.is(answers(err))
			const certificates = 20
			var made []issuance.Created
			for i := range certificates {
				made = append(made, o.request(fmt.Sprint("site ", i)))
			}
			o.live(10 * time.Minute)
			for _, m := range made {
				c := o.certificate(m.Certificate.ID)
				if c.Status != issuance.Pending || !strings.Contains(c.StatusReason, "next attempt at 2026-11-24T12:") {
					t.Fatalf("after ten minutes it is %s and says %q", c.Status, c.StatusReason)
				}
			}
			if h := o.health("iss-afar"); h.OpenedAt.IsZero() || h.Failures < 5 {
				t.Errorf("its circuit is %s: %+v", h.State(o.clock.Now()), h)
			}
			// Five that open the circuit, and one each time that it is tried.
			if n := o.afar.times(); n > certificates+20 {
				t.Errorf("the CA was asked %d times in ten minutes of being away", n)
			}
			o.afar.is(nil)
			o.live(10 * time.Minute)
			for _, m := range made {
				if c := o.certificate(m.Certificate.ID); c.Status != issuance.Active || o.versions(c.ID) != 1 {
					t.Errorf("once it is back: %s, %q, %d versions", c.Status, c.StatusReason, o.versions(c.ID))
				}
			}
			if n := o.told("certctl.issuer.circuitchanged.v1"); n != 2 {
				t.Errorf("told %d times of a circuit that opened and closed", n)
			}
		})
	}
}

func TestElsewhere_AnOrderThatWasTakenIsGoneOnWith(t *testing.T) {
	o := newOutward(t)
	orders := map[string]bool{}
	o.afar.is(func(ctx context.Context, n int, r ca.Request) error {
		if r.Order == nil {
			r.Order = fmt.Appendf(nil, "order-%d", n)
			orders[string(r.Order)] = true
			if err := r.Kept(ctx, r.Order); err != nil {
				return err
			}
			return fault.New(fault.Unavailable, "the connection was closed after the order was taken")
		}
		orders[string(r.Order)] = true
		if n < 4 {
			return &ca.Pending{Says: "somebody looks at it", Again: time.Hour}
		}
		return nil
	})
	c := o.request("ordered").Certificate
	o.goOn()
	o.clock.Advance(time.Minute)
	stop(o.service)
	o.service = o.replica()
	o.goOn()
	got := o.certificate(c.ID)
	if !strings.Contains(got.StatusReason, "iss-afar has the order: somebody looks at it; asked again at 2026-11-24T13:01:00Z") {
		t.Errorf("says %q", got.StatusReason)
	}
	o.live(5 * time.Hour)
	if got = o.certificate(c.ID); got.Status != issuance.Active || len(orders) != 1 || o.afar.times() != 4 {
		t.Errorf("%s (%s) after %d requests and the orders %v", got.Status, got.StatusReason, o.afar.times(), slices.Collect(maps.Keys(orders)))
	}
	if n := o.count(`SELECT count(*) FROM jobs WHERE ca_order IS NOT NULL`); n != 0 {
		t.Error("the order is kept after its end")
	}
}

func TestElsewhere_ACAThatCannotBeOpenedIsWaitedForAndItsCircuitOpens(t *testing.T) {
	o := newOutward(t)
	o.world["iss-afar"] = nil
	made := o.request("unopened")
	c := made.Certificate
	o.live(40 * time.Minute)
	got := o.certificate(c.ID)
	if got.Status != issuance.Pending || !strings.Contains(got.StatusReason, "connection refused; next attempt at ") {
		t.Errorf("%s (%s)", got.Status, got.StatusReason)
	}
	if h := o.health("iss-afar"); h.OpenedAt.IsZero() || !strings.Contains(h.LastError, "connection refused") {
		t.Errorf("shown as %+v", h)
	}
	if j := o.job(made.Job.ID); j.Attempts != 0 {
		t.Errorf("%d attempts are used up", j.Attempts)
	}
	o.world["iss-afar"] = o.afar
	o.live(time.Hour)
	if got = o.certificate(c.ID); got.Status != issuance.Active || o.versions(c.ID) != 1 {
		t.Errorf("%s (%s)", got.Status, got.StatusReason)
	}
}

func TestElsewhere_GoesOnAtOnceWhenTheIssuerIsChangedOrFoundToBeWell(t *testing.T) {
	for name, mend := range map[string]func(*outward) error{
		"changed": func(o *outward) error {
			_, err := o.store.ChangeIssuer(o.t.Context(), authn.Scope{}, "iss-afar", func(i registry.Issuer) (registry.Issuer, *registry.Told, error) {
				i.UpdatedAt, i.Revision = o.clock.Now(), i.Revision+1
				changed := event.IssuerChanged{Record: event.Record{ID: i.ID, Name: i.Name, Verb: event.Updated}}
				return i, &registry.Told{Changed: issuance.Fact{Event: changed, At: i.UpdatedAt, Origin: issuance.Origin{Actor: "root"}}}, nil
			})
			return err
		},
		"found to be well": func(o *outward) error { return o.store.TryAgain(o.t.Context(), "iss-afar", o.clock.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutward(t)
			o.world["iss-afar"] = nil
			a, b := o.request("first").Certificate, o.request("second").Certificate
			o.live(3 * time.Hour)
			if h := o.health("iss-afar"); h.OpenedAt.IsZero() || h.Waiting != 2 {
				t.Errorf("shown as %+v", h)
			}
			o.world["iss-afar"] = o.afar
			if err := mend(o); err != nil {
				t.Fatal(err)
			}
			o.goOn()
			for _, c := range []issuance.Certificate{a, b} {
				if got := o.certificate(c.ID); got.Status != issuance.Active {
					t.Errorf("%s (%s)", got.Status, got.StatusReason)
				}
			}
		})
	}
}

func TestElsewhere_WhatTheCAHasLimitedIsLeftThatLongHoweverWellItAnswersOthers(t *testing.T) {
	o := newOutward(t)
	limited := fault.New(fault.RateLimited, "too many certificates for these names")
	limited.RetryAfter = 10 * time.Hour
	o.afar.is(answers(limited))
	c := o.request("limited").Certificate
	o.goOn()
	o.afar.is(nil)
	if err := o.store.TryAgain(t.Context(), "iss-afar", o.clock.Now()); err != nil {
		t.Fatal(err)
	}
	o.request("other")
	o.live(9 * time.Hour)
	if got := o.certificate(c.ID); got.Status != issuance.Pending || o.afar.times() != 2 {
		t.Errorf("%s (%s), asked %d times", got.Status, got.StatusReason, o.afar.times())
	}
	o.live(2 * time.Hour)
	if got := o.certificate(c.ID); got.Status != issuance.Active {
		t.Errorf("%s (%s)", got.Status, got.StatusReason)
	}
}

func TestElsewhere_ACAThatLimitsWhoOpensItIsLeftAsLongAsItSays(t *testing.T) {
	o := newOutward(t)
	limited := fault.New(fault.RateLimited, "too many registrations")
	limited.RetryAfter = 10 * time.Hour
	o.world["iss-afar"] = limiting{o.afar, limited}
	c := o.request("limited").Certificate
	o.goOn()
	want := "next attempt at " + o.clock.Now().Add(10*time.Hour).UTC().Format(time.RFC3339)
	if got := o.certificate(c.ID); got.Status != issuance.Pending || !strings.Contains(got.StatusReason, "too many registrations; "+want) {
		t.Errorf("%s (%s)", got.Status, got.StatusReason)
	}
}

func TestElsewhere_WhatTheCADoesNotBelieveIsNoOutage(t *testing.T) {
	o := newOutward(t)
	o.afar.is(answers(&ca.Unproven{Err: fault.New(fault.Unavailable, "the ACME CA does not believe that www.example.com is ours")}))
	c := o.request("unproven").Certificate
	o.live(time.Hour)
	if got := o.certificate(c.ID); got.Status != issuance.Failed || !strings.Contains(got.StatusReason, "does not believe") || o.afar.times() != 3 {
		t.Errorf("%s (%s) after %d attempts", got.Status, got.StatusReason, o.afar.times())
	}
	if h := o.health("iss-afar"); h.Failures != 0 {
		t.Errorf("the CA counts as away: %+v", h)
	}
}

func TestElsewhere_ARefusalIsFinal(t *testing.T) {
	o := newOutward(t)
	o.afar.is(answers(fault.New(fault.Invalid, "the CA issues for nobody of that name")))
	c := o.request("refused").Certificate
	o.goOn()
	if got := o.certificate(c.ID); got.Status != issuance.Failed || o.afar.times() != 1 {
		t.Errorf("%s (%s) after %d attempts", got.Status, got.StatusReason, o.afar.times())
	}
}

func TestElsewhere_NoMoreIsAskedAtOnceThanTheLimitOfAllReplicasTogether(t *testing.T) {
	o := newOutward(t)
	o.run(`UPDATE issuers SET max_concurrent = 3 WHERE id = 'iss-afar'`)
	for i := range 10 {
		o.request(fmt.Sprint("site ", i))
	}
	release := make(chan struct{})
	o.afar.is(hangs(release))
	other := o.replica()
	o.work()
	if _, err := other.Work(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.await("three requests", func() bool { return o.afar.times() == 3 })
	h := o.health("iss-afar")
	if h.UnderWay != 3 || h.Waiting != 7 {
		t.Errorf("shown as %d under way, %d waiting", h.UnderWay, h.Waiting)
	}
	close(release)
	o.await("the three to end", func() bool { return o.count(`SELECT count(*) FROM jobs WHERE status = 'Running'`) == 0 })
	o.live(time.Minute)
	if n := o.count(`SELECT count(*) FROM certificates WHERE status = 'Active'`); n != 10 || o.afar.most != 3 {
		t.Errorf("%d issued, %d at once", n, o.afar.most)
	}
}

func TestElsewhere_ABudgetThatIsSpentIsWaitedForAndSaysSo(t *testing.T) {
	o := newOutward(t)
	o.run(`UPDATE issuers SET rate_limit = 4, rate_window_seconds = 3600 WHERE id = 'iss-afar'`)
	var last issuance.Created
	for i := range 10 {
		last = o.request(fmt.Sprint("site ", i))
	}
	o.goOn()
	if n := o.afar.times(); n != 4 {
		t.Fatalf("asked %d times", n)
	}
	if reason := o.certificate(last.Certificate.ID).StatusReason; !strings.Contains(reason, "budget of 4 requests in 1h0m0s is spent; next attempt at 2026-11-24T13:00:00Z") {
		t.Errorf("says %q", reason)
	}
	o.live(2 * time.Hour)
	if n := o.count(`SELECT count(*) FROM certificates WHERE status = 'Active'`); n != 10 {
		t.Errorf("%d issued after two hours", n)
	}
}

// fallsBack has the default policy name iss-other for when an issuer is away.
func (o *outward) fallsBack(after time.Duration) {
	o.t.Helper()
	desk := issuance.PolicyDesk{Store: o.store, Now: o.clock.Now, Rules: o.service.Rules()}
	_, err := desk.Update(o.t.Context(), authn.Principal{ID: "root"}, issuance.Origin{Actor: "root"}, renewal.Default, func(p *renewal.Policy) error {
		p.Fallbacks, p.FallbackAfter = []string{"iss-other"}, after
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

func TestFallback_IssuesOnceTheCAHasBeenAwayLongEnough(t *testing.T) {
	o := newOutward(t)
	o.fallsBack(time.Hour)
	o.afar.is(answers(fault.New(fault.Unavailable, "the CA failed with HTTP 500")))
	c := o.request("important").Certificate
	o.live(59 * time.Minute)
	if o.other.times() != 0 {
		t.Fatal("the fallback was asked too early")
	}
	o.live(time.Hour)
	got := o.certificate(c.ID)
	if got.Status != issuance.Active || got.IssuerID != "iss-afar" || o.other.times() != 1 {
		t.Fatalf("%s (%s) of issuer %s", got.Status, got.StatusReason, got.IssuerID)
	}
	if n := o.count(`SELECT count(*) FROM certificate_versions WHERE issuer_id = 'iss-other'`); n != 1 {
		t.Error("the version is not of the issuer that made it")
	}
	told := o.count(`SELECT count(*) FROM outbox WHERE headers->'ce-type'->>0 = 'certctl.certificate.issued.v1'
		AND convert_from(body, 'UTF8')::jsonb @> '{"issuer_id": "iss-other", "fallback_for": "iss-afar"}'`)
	if told != 1 {
		t.Error("nobody is told that a fallback has issued")
	}
}

func TestFallback_AtOnceWhenTheBudgetIsSpentIfThePolicySaysSo(t *testing.T) {
	o := newOutward(t)
	o.fallsBack(0)
	o.run(`UPDATE issuers SET rate_limit = 1 WHERE id = 'iss-afar'`)
	o.request("one")
	o.request("two")
	o.goOn()
	if n := o.count(`SELECT count(*) FROM certificates WHERE status = 'Active'`); n != 2 || o.other.times() != 1 {
		t.Errorf("%d issued, the fallback asked %d times", n, o.other.times())
	}
}

func TestFallback_IsHeldToThePolicyRules(t *testing.T) {
	o := newOutward(t)
	o.fallsBack(0)
	o.rule(policy.Spec{
		ID: "pr-afar", Name: "Afar only", Type: policy.AllowedIssuers, Severity: policy.Error,
		Config: map[string]any{"issuer_ids": []any{"iss-afar"}},
	})
	o.run(`UPDATE issuers SET rate_limit = 1 WHERE id = 'iss-afar'`)
	o.request("one")
	two := o.request("two").Certificate
	o.goOn()
	if got := o.certificate(two.ID); got.Status != issuance.Pending || o.other.times() != 0 {
		t.Errorf("%s (%s), the fallback asked %d times", got.Status, got.StatusReason, o.other.times())
	}
}

func TestFallback_OfAPolicyHasToExist(t *testing.T) {
	o := newOutward(t)
	desk := issuance.PolicyDesk{Store: o.store, Now: o.clock.Now, Rules: o.service.Rules()}
	_, err := desk.Update(t.Context(), authn.Principal{ID: "root"}, issuance.Origin{Actor: "root"}, renewal.Default, func(p *renewal.Policy) error {
		p.Fallbacks = []string{"iss-nowhere"}
		return nil
	})
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "iss-nowhere") {
		t.Errorf("got %v", err)
	}
}
