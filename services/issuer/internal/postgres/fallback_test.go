package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// fallsBackAtOnce has the default policy name issuers for when an issuer has failed once.
func (o *outward) fallsBackAtOnce(ids ...string) {
	o.t.Helper()
	desk := issuance.PolicyDesk{Store: o.store, Now: o.clock.Now, Rules: o.service.Rules()}
	_, err := desk.Update(o.t.Context(), authn.Principal{ID: "root"}, issuance.Origin{Actor: "root"}, renewal.Default, func(p *renewal.Policy) error {
		p.Fallbacks, p.FallbackAfter = ids, 0
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

// signedBy counts the versions that an issuer has made.
func (o *outward) signedBy(issuerID string) int {
	o.t.Helper()
	return o.count(`SELECT count(*) FROM certificate_versions WHERE issuer_id = '` + issuerID + `'`)
}

func TestFallback_ThatFailsKeepsNobodyFromTheCertificatesOwnIssuer(t *testing.T) {
	for name, answer := range map[string]error{
		"away":    fault.New(fault.Unavailable, "the CA failed with HTTP 500"),
		"refuses": fault.New(fault.Invalid, "no such names here"),
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutward(t)
			o.fallsBackAtOnce("iss-other")
			o.afar.is(answers(fault.New(fault.Unavailable, "the CA is sealed")))
			o.other.is(answers(answer))
			c := o.request("important").Certificate
			o.live(90 * time.Second)
			got := o.certificate(c.ID)
			for _, says := range []string{"issuer iss-afar: the CA is sealed; its fallback iss-other: " + answer.Error(), "; next attempt at 2026-11-24T12:02:00Z"} {
				if got.Status != issuance.Pending || !strings.Contains(got.StatusReason, says) {
					t.Errorf("%s (%s), which does not say %q", got.Status, got.StatusReason, says)
				}
			}
			o.live(6 * time.Hour)
			if o.afar.times() < 10 || o.other.times() < 10 {
				t.Errorf("its own CA was asked %d times, the fallback %d times", o.afar.times(), o.other.times())
			}
			if n := o.other.times(); n > 60 {
				t.Errorf("the fallback was asked %d times in six hours", n)
			}
			o.afar.is(nil)
			o.live(11 * time.Minute)
			if got = o.certificate(c.ID); got.Status != issuance.Active || o.signedBy("iss-afar") != 1 {
				t.Errorf("%s (%s) although its own CA is back", got.Status, got.StatusReason)
			}
		})
	}
}

func TestFallback_TheNextIsAskedWhenOneDoesNotSign(t *testing.T) {
	o := newOutward(t)
	o.fallsBackAtOnce("iss-other", "iss-local")
	o.afar.is(answers(fault.New(fault.Unavailable, "the CA is sealed")))
	o.other.is(answers(fault.New(fault.Invalid, "no such names here")))
	c := o.request("important").Certificate
	o.live(90 * time.Second)
	if got := o.certificate(c.ID); got.Status != issuance.Active || o.signedBy("iss-local") != 1 || o.other.times() != 1 {
		t.Errorf("%s (%s)", got.Status, got.StatusReason)
	}
}

func TestFallback_GoesOnWithAnOrderThatItHasTaken(t *testing.T) {
	o := newOutward(t)
	o.fallsBackAtOnce("iss-other")
	o.afar.is(answers(fault.New(fault.Unavailable, "the CA is sealed")))
	var orders []string
	o.other.is(func(ctx context.Context, n int, r ca.Request) error {
		if r.Order == nil {
			r.Order = fmt.Appendf(nil, "order-%d", n)
			if err := r.Kept(ctx, r.Order); err != nil {
				return err
			}
		}
		orders = append(orders, string(r.Order))
		if n < 3 {
			return &ca.Pending{Says: "somebody looks at it", Again: time.Hour}
		}
		return nil
	})
	c := o.request("ordered").Certificate
	o.live(time.Minute)
	// Its own CA is back, and is not ordered from as well.
	o.afar.is(nil)
	asked := o.afar.times()
	o.live(3 * time.Hour)
	got := o.certificate(c.ID)
	if got.Status != issuance.Active || o.signedBy("iss-other") != 1 || o.afar.times() != asked || len(slices.Compact(orders)) != 1 {
		t.Errorf("%s (%s), its own CA asked %d times, orders %v", got.Status, got.StatusReason, o.afar.times(), orders)
	}
}

func TestElsewhere_WhatWaitsAfterAFailureIsCountedAndGoesOnWhenTheCircuitCloses(t *testing.T) {
	o := newOutward(t)
	o.afar.is(answers(fault.New(fault.Unavailable, "the CA is sealed")))
	for _, name := range []string{"one", "two", "three"} {
		o.request(name)
	}
	o.live(time.Hour)
	if h := o.health("iss-afar"); h.Waiting != 3 || h.OpenedAt.IsZero() {
		t.Errorf("%d are shown as waiting, open since %s", h.Waiting, h.OpenedAt)
	}
	o.afar.is(nil)
	o.await("a job to be due", func() bool {
		next, _, err := o.store.NextDue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o.clock.Set(next)
		return true
	})
	o.goOn()
	o.goOn()
	if n := o.count(`SELECT count(*) FROM certificates WHERE status = 'Active'`); n != 3 {
		t.Errorf("%d are issued at once when the CA is back", n)
	}
}
