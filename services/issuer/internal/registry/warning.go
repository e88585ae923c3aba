package registry

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// LocalLifetime is how long what a Local CA issues holds, unless it is set otherwise.
const LocalLifetime = 90 * day

const (
	day = 24 * time.Hour
	// firstDay is when a CA counts as begun: certificates are dated back, and a threshold that passed as it was made would tell
	// nobody anything.
	firstDay = day
)

// thresholds are when people are warned of the end of a CA, in days before it. The end itself is one too, and so is when it
// begins to cut short what is issued.
var thresholds = []int{365, 180, 90, 30, 7}

// End is the end of an issuer's CA: that of the first certificate of its chain to end.
type End struct {
	Subject          string
	Begins, NotAfter time.Time
	// Lifetime is how long what is issued is to hold.
	Lifetime time.Duration
	// OwnRoot tells that the issuing CA signed itself.
	OwnRoot bool
}

// End returns the end of an issuer's CA, false if its CA is not known.
func (i *Issuer) End() (End, bool) {
	chain, err := x509x.ParseCertificates([]byte(i.CAChainPEM))
	if err != nil {
		return End{}, false
	}
	first := chain[0]
	for _, c := range chain[1:] {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	e := i.endOf(first)
	e.OwnRoot = bytes.Equal(chain[0].RawIssuer, chain[0].RawSubject) && chain[0].CheckSignatureFrom(chain[0]) == nil
	return e, true
}

func (i *Issuer) endOf(c *x509.Certificate) End {
	e := End{Subject: c.Subject.String(), Begins: c.NotBefore, NotAfter: c.NotAfter, Lifetime: LocalLifetime}
	if days, ok := i.Config["validity_days"].(float64); ok && days >= 1 {
		e.Lifetime = time.Duration(days) * day
	}
	return e
}

// CutsShort tells whether what is issued now ends with the CA.
func (e *End) CutsShort(now time.Time) bool { return now.Add(e.Lifetime).After(e.NotAfter) }

// Alert is the threshold to warn by now, and when there may be another; told is the last one that was told of this end. A
// time of zero is never.
func (e *End) Alert(told *int, now time.Time) (threshold int, warn bool, next time.Time) {
	p := renewal.Policy{ThresholdDays: append([]int{int(math.Ceil(float64(e.Lifetime) / float64(day)))}, thresholds...)}
	c := renewal.Certificate{IssuedAt: e.Begins.Add(firstDay), NotAfter: e.NotAfter, Told: told}
	next = p.NextMark(&c, now)
	if !now.Before(e.NotAfter) {
		return 0, told == nil || *told > 0, next
	}
	threshold, warn = p.Alert(&c, now)
	return threshold, warn, next
}

// Advice says what the end of an issuer's CA means, and what is to be done about it; nothing if it is far away. It is known
// of CAs that live here.
func (i *Issuer) Advice(now time.Time) string {
	e, ok := i.End()
	if !ok || i.Type != TypeLocal || !e.CutsShort(now) && now.Before(e.NotAfter.Add(-365*day)) {
		return ""
	}
	return i.advice(&e, now)
}

func (i *Issuer) advice(e *End, now time.Time) string {
	end := e.NotAfter.UTC().Format(time.DateOnly)
	what := fmt.Sprintf("the CA certificate %s ends on %s, in %d days", e.Subject, end, renewal.DaysLeft(e.NotAfter, now))
	switch {
	case !now.Before(e.NotAfter):
		what = fmt.Sprintf("the CA certificate %s ended on %s, and nothing is issued any more", e.Subject, end)
	case e.CutsShort(now):
		what += ", and what is issued or renewed now ends with it"
	}
	switch path := "/api/v1/issuers/" + i.ID; {
	case i.Config[settingCAFile] != nil:
		return what + "; put a new one in its file"
	case e.OwnRoot && !now.Before(e.NotAfter):
		return what + "; roll it over (POST " + path + "/rollover), and bring the new root to relying parties"
	case e.OwnRoot:
		return what + "; roll it over (POST " + path + "/rollover), with cross_sign while relying parties learn of the new root"
	case i.Config["parent_issuer_id"] != nil:
		return what + "; roll it over (POST " + path + "/rollover), and the issuer above it before if that ends as soon"
	default:
		return what + "; make a request for a new one (POST " + path + "/ca-request) and have it signed"
	}
}

// Watched is an issuer whose CA's end is watched, and what was told of it last.
type Watched struct {
	Issuer
	WarnedOf  time.Time
	Threshold *int
}

// Warnings keeps what has been told.
type Warnings interface {
	// Watched returns the issuers of a type that are enabled and whose CA is known.
	Watched(ctx context.Context, kind string) ([]Watched, error)
	// Warn notes a warning of an end and tells of it, unless that was done already, which it reports.
	Warn(ctx context.Context, issuerID string, of time.Time, threshold int, f issuance.Fact) (told bool, err error)
}

// Watch warns of the end of CAs that live here, once for each threshold. Make it with NewWatch.
type Watch struct {
	warnings Warnings
	clock    clock.Clock
	log      *slog.Logger
	next     time.Time
}

// NewWatch returns a Watch, which is work and schedule of one worker.
func NewWatch(w Warnings, c clock.Clock, log *slog.Logger) *Watch {
	return &Watch{warnings: w, clock: c, log: log}
}

// Work warns of what is due, and finds out when something will be.
func (w *Watch) Work(ctx context.Context) (more bool, err error) {
	all, err := w.warnings.Watched(ctx, TypeLocal)
	if err != nil {
		return false, err
	}
	now := w.clock.Now()
	w.next = time.Time{}
	for k := range all {
		i := &all[k]
		end, ok := i.End()
		if !ok {
			continue
		}
		told := i.Threshold
		if !i.WarnedOf.Equal(end.NotAfter) {
			told = nil
		}
		threshold, warn, next := end.Alert(told, now)
		if !next.IsZero() && (w.next.IsZero() || next.Before(w.next)) {
			w.next = next
		}
		if !warn {
			continue
		}
		if err := w.warn(ctx, &i.Issuer, &end, threshold, now); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (w *Watch) warn(ctx context.Context, i *Issuer, end *End, threshold int, now time.Time) error {
	e := event.IssuerExpiring{
		IssuerID: i.ID, Name: i.Name, Subject: end.Subject, NotAfter: end.NotAfter.UTC(), DaysLeft: renewal.DaysLeft(end.NotAfter, now),
		Threshold: threshold, CutsShort: end.CutsShort(now), Advice: i.advice(end, now),
	}
	told, err := w.warnings.Warn(ctx, i.ID, end.NotAfter, threshold, issuance.Fact{Event: e, Origin: issuance.Origin{Actor: issuance.System}, At: now})
	if told {
		w.log.WarnContext(ctx, "an issuer's CA ends", obs.KeyIssuer, i.ID, "not_after", end.NotAfter, "advice", e.Advice)
	}
	return err
}

// NextDue implements the worker's schedule.
func (w *Watch) NextDue(context.Context) (time.Time, bool, error) {
	return w.next, !w.next.IsZero(), nil
}
