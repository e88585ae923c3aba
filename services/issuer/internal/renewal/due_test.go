package renewal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var issued = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)

func ninetyDays(id string) *Certificate {
	return &Certificate{ID: id, Renewable: true, IssuedAt: issued, NotAfter: issued.Add(90 * day)}
}

func TestOpens_GoesByTheShareOfTheLifetimeIfOneIsGiven(t *testing.T) {
	tests := []struct {
		name     string
		policy   Policy
		lifetime time.Duration
		left     time.Duration
	}{
		{"days", Policy{WindowDays: 30}, 90 * day, 30 * day},
		{"a share", Policy{WindowDays: 30, WindowPercent: 20}, 90 * day, 18 * day},
		{"a share of a short life", Policy{WindowDays: 30, WindowPercent: 50}, 24 * time.Hour, 12 * time.Hour},
		{"more days than it lives", Policy{WindowDays: 30}, 7 * day, 84 * time.Hour},
		{"as many days as it lives", Policy{WindowDays: 30}, 30 * day, 15 * day},
		{"nearly as many days as it lives", Policy{WindowDays: 30}, 32 * day, 16 * day},
		{"fewer days than it lives", Policy{WindowDays: 30}, 47 * day, 30 * day},
		{"the largest share", Policy{WindowPercent: 95}, 100 * day, 95 * day},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &Certificate{IssuedAt: issued, NotAfter: issued.Add(tt.lifetime)}
			if left := c.NotAfter.Sub(tt.policy.Opens(c)); left != tt.left {
				t.Errorf("opens %s before the end, want %s", left, tt.left)
			}
		})
	}
}

func TestLeadDays_TakesAShareOfNinetyDaysWhereOneIsInForce(t *testing.T) {
	for want, p := range map[int]Policy{
		30: {WindowDays: 30},
		45: {WindowDays: 30, WindowPercent: 50},
	} {
		if got := p.LeadDays(); got != want {
			t.Errorf("%+v opens %d days before the end, want %d", p, got, want)
		}
	}
}

func TestDue_SpreadsAFleetEvenlyOverTheFirstTenthOfTheWindow(t *testing.T) {
	p := Policy{WindowDays: 30}
	perHour := map[int]int{}
	const fleet = 7200
	for i := range fleet {
		c := ninetyDays(fmt.Sprintf("mc-%d", i))
		after := p.Due(c).Sub(p.Opens(c))
		if after < 0 || after >= 3*day || !p.Due(c).Equal(p.Due(c)) {
			t.Fatalf("%s is due %s after the window opens", c.ID, after)
		}
		perHour[int(after/time.Hour)]++
	}
	for hour := range 72 {
		if n := perHour[hour]; n < 50 || n > 160 {
			t.Errorf("%d of %d fall into hour %d", n, fleet, hour)
		}
	}
}

func TestJudge_SaysWhenAndWhy(t *testing.T) {
	opens := issued.Add(60 * day)
	saturdays := window(t, []string{"Sat"}, "22:00", "04:00", "UTC")
	p := Policy{ID: "rp-1", AutoRenew: true, WindowDays: 30}
	c := ninetyDays("mc-1")
	due := p.Due(c)
	with := func(change func(*Policy, *Certificate)) (Policy, Certificate) {
		policy, certificate := p, *c
		change(&policy, &certificate)
		return policy, certificate
	}
	never := time.Time{}
	if share("mc-6") < 0.5 {
		t.Fatal("mc-6 is not late; the test needs an id that is")
	}
	tests := []struct {
		name   string
		change func(*Policy, *Certificate)
		now    time.Time
		at     time.Time
		missed bool
		reason string
	}{
		{"before its window", func(*Policy, *Certificate) {}, issued, due, false, "opens at 2026-10-31"},
		{"within its window", func(*Policy, *Certificate) {}, opens.Add(5 * day), due, false, "has opened"},
		{"not of its own accord", func(p *Policy, _ *Certificate) { p.AutoRenew = false }, opens.Add(5 * day), never, false, "auto_renew of policy rp-1 is off"},
		{"not renewable", func(_ *Policy, c *Certificate) { c.Renewable, c.Why = false, "it is revoked" }, opens.Add(5 * day), never, false, "it is revoked"},
		{
			"in its maintenance window", func(p *Policy, _ *Certificate) { p.Windows = []Window{saturdays} },
			opens, at(t, "2026-10-31T22:00:00Z"), false, "maintenance window opens at 2026-10-31T22:00:00Z",
		},
		{
			"jitter is forgone for the only window", func(p *Policy, c *Certificate) {
				p.Windows, p.WindowDays = []Window{saturdays}, 7
				c.ID, c.NotAfter = "mc-6", at(t, "2026-11-07T23:00:00Z")
			}, at(t, "2026-10-31T22:30:00Z"), at(t, "2026-10-31T23:00:00Z"), false, "maintenance window opens at 2026-10-31T23:00:00Z",
		},
		{
			"the last window has been missed", func(p *Policy, _ *Certificate) { p.Windows = []Window{saturdays} },
			at(t, "2026-11-29T05:00:00Z"), due, true, "no maintenance window",
		},
		{
			"a window opens too shortly before the end", func(p *Policy, c *Certificate) {
				p.Windows, c.NotAfter = []Window{saturdays}, at(t, "2026-11-28T22:30:00Z")
			}, at(t, "2026-11-22T05:00:00Z"), at(t, "2026-10-31T00:00:00Z"), true, "no maintenance window",
		},
		{
			"approval is asked for when it is due", func(p *Policy, _ *Certificate) { p.Windows, p.ApprovalRequired = []Window{saturdays}, true },
			opens, due, false, "has opened",
		},
		{
			"a day after a failure", func(_ *Policy, c *Certificate) { c.Failed = opens.Add(10 * day) },
			opens.Add(10 * day), opens.Add(11 * day), false, "ended without a version at 2026-11-10",
		},
		{
			"sooner after a failure in a short life", func(_ *Policy, c *Certificate) {
				c.NotAfter, c.Failed = issued.Add(10*time.Hour), issued.Add(8*time.Hour)
			}, issued.Add(8 * time.Hour), issued.Add(9 * time.Hour), false, "ended without",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy, certificate := with(tt.change)
			v := policy.Judge(&certificate, tt.now)
			if tt.missed {
				// Outside of any window it is due when it would have been without them.
				tt.at = policy.Due(&certificate)
			}
			if !v.At.Equal(tt.at) || v.WindowMissed != tt.missed || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("verdict %+v, want %s, missed %t", v, tt.at, tt.missed)
			}
		})
	}
}

func TestStart_HoldsAnApprovedRenewalForItsMaintenanceWindow(t *testing.T) {
	c := ninetyDays("mc-1")
	p := Policy{ID: "rp-1", Windows: []Window{window(t, []string{"Sat"}, "22:00", "04:00", "UTC")}}
	now := at(t, "2026-11-04T12:00:00Z")
	if v := p.Start(c, now); !v.At.Equal(at(t, "2026-11-07T22:00:00Z")) || v.WindowMissed || v.Reason == "" {
		t.Errorf("before it opens: %+v", v)
	}
	if v := p.Start(c, at(t, "2026-11-07T23:00:00Z")); !v.Now(at(t, "2026-11-07T23:00:00Z")) || v.WindowMissed {
		t.Errorf("while it is open: %+v", v)
	}
	if v := p.Start(c, at(t, "2026-11-29T05:00:00Z")); !v.Now(at(t, "2026-11-29T05:00:00Z")) || !v.WindowMissed {
		t.Errorf("when the last is over: %+v", v)
	}
}

// Whatever the policy and the hour, a certificate that may be renewed begins to be before its end, not before its window
// opens, and within a maintenance window unless the verdict says otherwise.
func TestJudge_AlwaysRenewsBeforeTheEnd(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	rapid.Check(t, func(t *rapid.T) {
		c := &Certificate{
			ID: rapid.StringMatching(`mc-[a-z0-9]{1,26}`).Draw(t, "id"), Renewable: true, IssuedAt: issued,
			NotAfter: issued.Add(time.Duration(rapid.IntRange(1, 400*24).Draw(t, "hours")) * time.Hour),
		}
		p := Policy{ID: "rp-1", AutoRenew: true, WindowDays: rapid.IntRange(1, 90).Draw(t, "days"), WindowPercent: rapid.IntRange(0, 95).Draw(t, "percent")}
		for range rapid.IntRange(0, 2).Draw(t, "windows") {
			p.Windows = append(p.Windows, Window{
				Weekdays: []time.Weekday{time.Weekday(rapid.IntRange(0, 6).Draw(t, "weekday"))},
				Start:    rapid.IntRange(0, 1439).Draw(t, "start"), End: rapid.IntRange(0, 1439).Draw(t, "end"), Zone: berlin,
			})
		}
		now := issued.Add(time.Duration(rapid.Int64Range(0, int64(c.lifetime())).Draw(t, "now")))
		v := p.Judge(c, now)
		if v.At.Before(p.Opens(c).Truncate(time.Second)) || !v.At.Before(c.NotAfter) || v.Reason == "" {
			t.Fatalf("%+v of %+v under %+v", v, c, p)
		}
		if in, _ := Opening(p.Windows, v.At); !v.WindowMissed && !in.Equal(v.At) {
			t.Fatalf("%+v is in no window of %+v", v, p)
		}
	})
}
