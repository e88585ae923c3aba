// Package renewal holds the rules of when a certificate is renewed and when people are told that it runs out: when its
// renewal falls due, which maintenance window it waits for, how a failed renewal is tried again, which threshold is the
// next to be told.
//
// Every rule is a function of values, the present time among them. Nothing here knows a database or a bus, and nothing
// is remembered: what has been done already is part of what is asked.
package renewal

import (
	"slices"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/retry"
)

// Default is the id of the policy of certificates that name none, and of those that another policy does not cover.
const Default = "rp-default"

const day = 24 * time.Hour

// Policy says when and how certificates are renewed.
type Policy struct {
	ID, Name string
	// AutoRenew is whether certificates are renewed without being asked.
	AutoRenew bool
	// WindowPercent, if it is not zero, opens the window when that share of the lifetime is left; else it opens WindowDays
	// before the end.
	WindowDays, WindowPercent int
	// MaxRetries is how often a renewal is tried in all before it has failed; none counts as one.
	MaxRetries int
	// RetryInterval doubles with each attempt up to RetryMaxInterval, if that is longer; chance takes off up to RetryJitterPercent of it.
	RetryInterval, RetryMaxInterval time.Duration
	RetryJitterPercent              int
	// ThresholdDays are the days before the end at which people are told, each once a version.
	ThresholdDays []int
	// ApprovalRequired has jobs wait for a person, at most for ApprovalExpiresAfter.
	ApprovalRequired     bool
	ApprovalExpiresAfter time.Duration
	// Windows are when renewals of its own accord may begin. Without any they may at all times.
	Windows []Window
	// AgentGroupID limits the policy to certificates whose agent is in the group; for others the default holds.
	AgentGroupID string
	// Fallbacks are issuers that are asked, in this order, when a certificate's own has been away for FallbackAfter or its
	// budget has been spent for so long.
	Fallbacks            []string
	FallbackAfter        time.Duration
	CreatedAt, UpdatedAt time.Time
	// Revision grows with each change.
	Revision int64
}

// typicalDays is the lifetime that a share is taken of where no certificate's own is at hand: what the Local CA and most
// others issue.
const typicalDays = 90

// LeadDays is how long before the end the window opens, of a certificate of 90 days if it opens by a share of the
// lifetime.
func (p *Policy) LeadDays() int {
	if p.WindowPercent > 0 {
		return typicalDays * p.WindowPercent / 100
	}
	return p.WindowDays
}

// Attempts is how often a job of the policy is tried.
func (p *Policy) Attempts() int { return max(p.MaxRetries, 1) }

// Retry spaces the attempts of a job.
func (p *Policy) Retry() retry.Policy {
	return retry.Policy{
		Base: p.RetryInterval, Cap: max(p.RetryInterval, p.RetryMaxInterval), Jitter: float64(p.RetryJitterPercent) / 100,
		MaxAttempts: p.Attempts(),
	}
}

// Bounds of what a policy may say.
const (
	maxName     = 255
	maxDays     = 3650
	maxSeconds  = 30 * 24 * 60 * 60
	maxAttempts = 100
	maxHours    = 90 * 24
	maxWindows  = 50
	maxMarks    = 20
	maxMinutes  = 30 * 24 * 60
	maxFallback = 5
)

// Check returns what is wrong with a policy, by the names of its fields in the API, and brings its thresholds in order.
func (p *Policy) Check() []fault.Field {
	var bad []fault.Field
	object := func(wrong bool, field, reason string) {
		if wrong {
			bad = append(bad, fault.Field{Name: field, Reason: reason})
		}
	}
	object(p.Name == "" || len(p.Name) > maxName, "name", "must have 1 to 255 bytes")
	object(p.WindowDays < 1 || p.WindowDays > maxDays, "renewal_window_days", "must be 1 to 3650")
	object(p.WindowPercent < 0 || p.WindowPercent > 95, "renewal_window_percent", "must be 1 to 95, or 0 to go by renewal_window_days")
	object(p.MaxRetries < 0 || p.MaxRetries > maxAttempts, "max_retries", "must be 0 to 100")
	object(p.RetryInterval < time.Second || p.RetryInterval > maxSeconds*time.Second, "retry_interval_seconds", "must be 1 to 2592000")
	object(p.RetryMaxInterval < time.Second || p.RetryMaxInterval > maxSeconds*time.Second, "retry_max_interval_seconds", "must be 1 to 2592000")
	object(p.RetryJitterPercent < 0 || p.RetryJitterPercent > 100, "retry_jitter_percent", "must be 0 to 100")
	object(p.ApprovalExpiresAfter < time.Hour || p.ApprovalExpiresAfter > maxHours*time.Hour,
		"approval_expires_after_hours", "must be 1 to 2160")
	object(len(p.Windows) > maxWindows, "maintenance_windows", "has more than 50 entries")
	object(len(p.ThresholdDays) > maxMarks, "alert_thresholds_days", "has more than 20 entries")
	object(slices.ContainsFunc(p.ThresholdDays, func(d int) bool { return d < 0 || d > maxDays }),
		"alert_thresholds_days", "must hold days from 0 to 3650")
	object(len(p.Fallbacks) > maxFallback, "fallback_issuer_ids", "has more than 5 entries")
	object(len(p.Fallbacks) > 1 && len(slices.Compact(slices.Sorted(slices.Values(p.Fallbacks)))) < len(p.Fallbacks),
		"fallback_issuer_ids", "has an issuer twice")
	object(p.FallbackAfter < 0 || p.FallbackAfter > maxMinutes*time.Minute, "fallback_after_minutes", "must be 0 to 43200")
	slices.Sort(p.ThresholdDays)
	p.ThresholdDays = slices.Compact(p.ThresholdDays)
	slices.Reverse(p.ThresholdDays)
	return bad
}
