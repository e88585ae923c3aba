package acme

import (
	"errors"
	"regexp"
	"time"

	protocol "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
)

const (
	// hourly is when to come again if a CA that limits does not say.
	hourly = time.Hour
	// longest bounds what a CA may say: no limit that is known is counted for longer than a week.
	longest = 8 * 24 * time.Hour
)

// retryText is how Let's Encrypt says in the text when to come again: "retry after 2026-01-02 15:04:05 UTC", or in
// RFC 3339.
var retryText = regexp.MustCompile(`(?i)retry after:? (\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2}:\d{2}) ?(?:UTC|Z)`)

// comeAgain is how long to leave a CA alone that limits: the later of what its header and its text say.
func comeAgain(err error, detail string, now time.Time) time.Duration {
	var after time.Duration
	if limited, ok := errors.AsType[*protocol.RateLimitedError](err); ok {
		if said, err := api.ParseRetryAfter(limited.RetryAfter); err == nil {
			after = said
		}
	}
	if at := retryText.FindStringSubmatch(detail); at != nil {
		if moment, err := time.Parse(time.DateTime, at[1]+" "+at[2]); err == nil {
			after = max(after, moment.Sub(now))
		}
	}
	if after <= 0 {
		return hourly
	}
	return min(after, longest)
}
