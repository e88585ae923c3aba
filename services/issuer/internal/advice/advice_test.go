package advice

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func question() *Question {
	return &Question{CertificateID: "mc-1", VersionID: "cv-1", IssuedAt: now.Add(-10 * day), NotAfter: now.Add(80 * day)}
}

func said(start time.Time, again time.Duration) ca.RenewalAdvice {
	return ca.RenewalAdvice{Start: start, End: start.Add(2 * day), Explanation: "https://ca.example/why", Again: again}
}

func TestAfter_DrawsAMomentOnceForEachWindow(t *testing.T) {
	q := question()
	first := After(q, said(now.Add(40*day), 6*time.Hour), nil, now, 0.25)
	if !first.At.Equal(now.Add(40*day+12*time.Hour)) || first.Explanation != "https://ca.example/why" || !first.ToldAt.Equal(now) ||
		!first.NextAskAt.Equal(now.Add(6*time.Hour)) {
		t.Errorf("first %+v", first)
	}
	q.Known = first
	if again := After(q, said(now.Add(40*day), 6*time.Hour), nil, now.Add(time.Hour), 0.75); !again.At.Equal(first.At) {
		t.Errorf("drawn anew from the same window: %s", again.At)
	}
	if moved := After(q, said(now.Add(-3*day), 6*time.Hour), nil, now.Add(time.Hour), 0.5); !moved.At.Equal(now.Add(-2 * day)) {
		t.Errorf("of a window that has moved: %s", moved.At)
	}
}

func TestAfter_KeepsWhatASilentCAHasSaidAndLeavesItAloneForLongerAndLonger(t *testing.T) {
	q := question()
	q.Known = After(q, said(now.Add(40*day), time.Hour), nil, now, 0)
	before := q.Known
	var waits []time.Duration
	for range 12 {
		q.Known = After(q, ca.RenewalAdvice{}, fault.New(fault.Unavailable, "it is away\n"), now, 0)
		waits = append(waits, q.Known.NextAskAt.Sub(now))
	}
	if q.Known.Advice != before.Advice || q.Known.Explanation != before.Explanation || !q.Known.ToldAt.Equal(before.ToldAt) || q.Known.Failures != 12 || q.Known.Error != "it is away " {
		t.Errorf("known %+v", q.Known)
	}
	if waits[0] != time.Minute || waits[1] != 2*time.Minute || waits[11] != 6*time.Hour {
		t.Errorf("waits %v", waits)
	}
	if q.Known = After(q, said(now.Add(40*day), time.Hour), nil, now, 0); q.Known.Failures != 0 || q.Known.Error != "" {
		t.Errorf("after it is back: %+v", q.Known)
	}
}

func TestAfter_AsksNoSoonerThanInAMinuteAndNoLaterThanInADay(t *testing.T) {
	limited := fault.New(fault.RateLimited, "too often")
	limited.RetryAfter = 3 * time.Hour
	for name, c := range map[string]struct {
		again time.Duration
		err   error
		want  time.Duration
	}{
		"a CA that says nothing":       {0, nil, time.Minute},
		"a CA that says a second":      {time.Second, nil, time.Minute},
		"a CA that says a month":       {30 * day, nil, day},
		"a CA that limits":             {0, limited, 3 * time.Hour},
		"a CA that does not advise":    {0, fault.New(fault.NotFound, "no"), day},
		"a certificate that is broken": {0, fault.New(fault.Invalid, "no"), day},
		"a fault of our own":           {0, errors.New("boom"), time.Minute},
	} {
		if k := After(question(), said(now, c.again), c.err, now, 0); k.NextAskAt.Sub(now) != c.want {
			t.Errorf("%s is asked again in %s, want %s", name, k.NextAskAt.Sub(now), c.want)
		}
	}
}

func TestLink_ShowsNothingThatPeopleShouldNotFollow(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://ca.example/why?x=1": true, "": false, "javascript:alert(1)": false, "https://": false, "https://a@ca.example/": false,
		"https://ca.example/\n": false, "https://ca.example/" + strings.Repeat("x", maxText): false,
	} {
		if got := link(address); (got != "") != ok {
			t.Errorf("%q becomes %q", address, got)
		}
	}
}
