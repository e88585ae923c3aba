package renewal

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var usual = Policy{ThresholdDays: []int{30, 14, 7, 0}}

// told plays a certificate that is looked at at the given days before its end.
func told(p *Policy, c Certificate, daysLeft ...float64) []int {
	out := []int{}
	for _, left := range daysLeft {
		now := c.NotAfter.Add(-time.Duration(left * float64(day)))
		if threshold, ok := p.Alert(&c, now); ok {
			out = append(out, threshold)
			c.Told = &threshold
		}
	}
	return out
}

func TestAlert_TellsOfEachThresholdOncePerVersion(t *testing.T) {
	year := Certificate{ID: "mc-1", IssuedAt: issued, NotAfter: issued.Add(365 * day)}
	week := Certificate{ID: "mc-1", IssuedAt: issued, NotAfter: issued.Add(7 * day)}
	tests := []struct {
		name   string
		policy Policy
		of     Certificate
		looks  []float64
		want   []int
	}{
		{"each in turn", usual, year, []float64{31, 30, 29, 14, 14, 13, 7, 6.9, 1, 0}, []int{30, 14, 7}},
		{"only the nearest when it is first seen late", usual, year, []float64{5, 4}, []int{7}},
		{"the nearest, and those that follow", usual, year, []float64{20, 14, 10, 7}, []int{30, 14, 7}},
		{"not one that had passed when it began", usual, week, []float64{6.9, 5, 1}, []int{}},
		{"the policy's", Policy{ThresholdDays: []int{60, 3}}, year, []float64{90, 60, 30, 3, 0}, []int{60, 3}},
		{"thirty days if there is none", Policy{}, year, []float64{31, 30, 7}, []int{30}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, told(&tt.policy, tt.of, tt.looks...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNextMark_IsTheNextThresholdAndThenTheEnd(t *testing.T) {
	c := Certificate{IssuedAt: issued, NotAfter: issued.Add(365 * day)}
	for left, want := range map[int]int{100: 30, 30: 14, 14: 7, 7: 0, 1: 0} {
		now := before(c.NotAfter, left)
		if got := usual.NextMark(&c, now); !got.Equal(before(c.NotAfter, want)) {
			t.Errorf("%d days before the end: %s", left, got)
		}
	}
	if got := usual.NextMark(&c, c.NotAfter); !got.IsZero() {
		t.Errorf("after the end: %s", got)
	}
}

// Whenever a certificate is looked at, no threshold is told twice, none after a nearer one, and one who looks at every
// mark tells of all of them.
func TestAlert_GoesDownward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{Name: "p", ThresholdDays: rapid.SliceOfN(rapid.IntRange(0, 100), 0, 6).Draw(t, "days")}
		p.Check()
		c := Certificate{IssuedAt: issued, NotAfter: issued.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "lifetime")) * day)}
		var seen []int
		for now := c.IssuedAt; !now.IsZero(); now = p.NextMark(&c, now) {
			if threshold, ok := p.Alert(&c, now); ok {
				seen = append(seen, threshold)
				c.Told = &threshold
			}
			if rapid.Bool().Draw(t, "late") {
				now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "by")) * day)
			}
		}
		if !slices.IsSortedFunc(seen, func(a, b int) int { return b - a }) || len(slices.Compact(slices.Clone(seen))) != len(seen) {
			t.Fatalf("told of %v", seen)
		}
	})
}

func TestDaysLeft_AreWholeDays(t *testing.T) {
	end := issued.Add(30 * day)
	for after, want := range map[time.Duration]int{0: 30, time.Second: 29, 29 * day: 1, 30*day - 1: 0, 40 * day: 0} {
		if got := DaysLeft(end, issued.Add(after)); got != want {
			t.Errorf("after %s: %d, want %d", after, got, want)
		}
	}
}

func TestCheck_NamesEveryFieldAtFault(t *testing.T) {
	p := Policy{
		WindowPercent: 99, MaxRetries: -1, RetryJitterPercent: 101, ThresholdDays: []int{-1},
	}
	var fields []string
	for _, f := range p.Check() {
		fields = append(fields, f.Name)
	}
	want := []string{
		"name", "renewal_window_days", "renewal_window_percent", "max_retries", "retry_interval_seconds",
		"retry_max_interval_seconds", "retry_jitter_percent", "approval_expires_after_hours", "alert_thresholds_days",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
	good := Policy{
		Name: "p", WindowDays: 30, RetryInterval: time.Second, RetryMaxInterval: time.Minute, ApprovalExpiresAfter: time.Hour,
		ThresholdDays: []int{7, 30, 7},
	}
	if bad := good.Check(); len(bad) > 0 || !cmp.Equal(good.ThresholdDays, []int{30, 7}) || good.Attempts() != 1 {
		t.Errorf("%v, thresholds %v", bad, good.ThresholdDays)
	}
}
