package renewal

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDraw_TakesAMomentOfTheCAsWindowThatIsOfUse(t *testing.T) {
	ends := issued.Add(90 * day)
	tests := []struct {
		name       string
		start, end time.Time
		lifetime   time.Duration
		chance     float64
		want       time.Time
	}{
		{"at its start", issued.Add(58 * day), issued.Add(60 * day), 90 * day, 0, issued.Add(58 * day)},
		{"half-way", issued.Add(58 * day), issued.Add(60 * day), 90 * day, 0.5, issued.Add(59 * day)},
		{"never past its end", issued.Add(58 * day), issued.Add(60 * day), 90 * day, 0.999999, issued.Add(60*day - time.Second)},
		{"in the past, at once", issued.Add(2 * day), issued.Add(3 * day), 90 * day, 0, issued.Add(2 * day)},
		{"not so late that nothing could be done", ends, ends.Add(day), 90 * day, 0.5, ends.Add(-3 * day)},
		{"not so late in a short life", issued.Add(6 * day), issued.Add(7 * day), 6 * day, 0.5, issued.Add(6*day - 6*day/10)},
		{"not as soon as it was issued", issued.Add(-2 * day), issued.Add(-day), 90 * day, 0.5, issued.Add(time.Hour)},
		{"nor in a short life", issued.Add(-2 * day), issued.Add(-day), 12 * time.Hour, 0.5, issued.Add(30 * time.Minute)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := Draw(tt.start, tt.end, issued, issued.Add(tt.lifetime), tt.chance)
			if !a.At.Equal(tt.want) || !a.Same(tt.start, tt.end) || a.Same(tt.start, tt.end.Add(1)) {
				t.Errorf("drew %+v, want %s", a, tt.want)
			}
		})
	}
}

func TestJudge_FollowsTheAdviceOfTheCA(t *testing.T) {
	saturdays := window(t, []string{"Sat"}, "22:00", "04:00", "UTC")
	early := Advice{At: at(t, "2026-10-08T00:00:00Z"), End: at(t, "2026-10-09T00:00:00Z")}
	late := Advice{At: at(t, "2026-11-25T00:00:00Z"), End: at(t, "2026-11-26T00:00:00Z")}
	overSaturday := Advice{At: early.At, End: at(t, "2026-10-12T00:00:00Z")}
	tests := []struct {
		name    string
		advised Advice
		change  func(*Policy, *Certificate)
		at      time.Time
		missed  bool
		reason  string
	}{
		{"earlier than the policy", early, func(*Policy, *Certificate) {}, early.At, false, "its CA advises to renew it at 2026-10-08"},
		{"later than the policy", late, func(*Policy, *Certificate) {}, late.At, false, "window until 2026-11-26"},
		{"after a window that had passed", Advice{At: early.At, End: early.At.Add(-day)}, func(*Policy, *Certificate) {}, early.At, false, "wants it renewed since 2026-10-07"},
		{"not if nothing is renewed of its own accord", early, func(p *Policy, _ *Certificate) { p.AutoRenew = false }, time.Time{}, false, "is off"},
		{
			"in a maintenance window within the CA's", overSaturday, func(p *Policy, _ *Certificate) { p.Windows = []Window{saturdays} },
			at(t, "2026-10-10T22:00:00Z"), false, "maintenance window opens",
		},
		{
			"outside of any if none opens within the CA's", early, func(p *Policy, _ *Certificate) { p.Windows = []Window{saturdays} },
			early.At, true, "has to be renewed by 2026-10-09",
		},
		{
			"a day after a failure", early, func(_ *Policy, c *Certificate) { c.Failed = early.At.Add(time.Hour) },
			early.At.Add(time.Hour + day), false, "ended without a version",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, c := Policy{ID: "rp-1", AutoRenew: true, WindowDays: 30}, ninetyDays("mc-1")
			c.Advised = tt.advised
			tt.change(&p, c)
			if v := p.Judge(c, issued.Add(day)); !v.At.Equal(tt.at) || v.WindowMissed != tt.missed || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("verdict %+v, want %s, missed %t", v, tt.at, tt.missed)
			}
		})
	}
}

// Whatever a CA says, a certificate is renewed before its end and not over and over.
func TestDraw_IsAlwaysWithinTheLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hour := func(name string) time.Time {
			return issued.Add(time.Duration(rapid.IntRange(-10_000, 10_000).Draw(t, name)) * time.Hour)
		}
		start := hour("start")
		end := start.Add(time.Duration(rapid.IntRange(1, 10_000).Draw(t, "length")) * time.Hour)
		notAfter := issued.Add(time.Duration(rapid.IntRange(1, 10_000).Draw(t, "life")) * time.Hour)
		a := Draw(start, end, issued, notAfter, rapid.Float64Range(0, 0.999).Draw(t, "chance"))
		if !a.At.After(issued) || !a.At.Before(notAfter) {
			t.Fatalf("drew %s", a.At)
		}
	})
}
