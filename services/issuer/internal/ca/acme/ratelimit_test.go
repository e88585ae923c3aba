package acme

import (
	"testing"
	"time"

	protocol "github.com/go-acme/lego/v4/acme"
)

func TestComeAgain_IsTheLaterOfHeaderAndText(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	const text = "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after 2026-01-02 15:04:05 UTC: see https://letsencrypt.org/docs/rate-limits/"
	for name, c := range map[string]struct {
		header, text string
		want         time.Duration
	}{
		"neither":               {"", "too many", time.Hour},
		"the header":            {"120", "too many", 2 * time.Minute},
		"the text":              {"", text, 3*time.Hour + 4*time.Minute + 5*time.Second},
		"the text is later":     {"120", text, 3*time.Hour + 4*time.Minute + 5*time.Second},
		"the header is later":   {"86400", text, 24 * time.Hour},
		"in RFC 3339":           {"", "retry after: 2026-01-02T12:30:00Z", 30 * time.Minute},
		"a moment that is past": {"", "retry after 2026-01-02 11:00:00 UTC", time.Hour},
		"no such moment":        {"", "retry after 2026-99-02 11:00:00 UTC", time.Hour},
		"longer than any limit": {"", "retry after 2027-01-02 11:00:00 UTC", longest},
	} {
		err := &protocol.RateLimitedError{ProblemDetails: &protocol.ProblemDetails{Detail: c.text}, RetryAfter: c.header}
		if got := comeAgain(err, c.text, now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
