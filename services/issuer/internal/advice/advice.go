// Package advice asks CAs when they want their certificates to be renewed (RFC 9773), in the background, and keeps what
// they say for the engine that renews.
//
// Each newest version whose CA may know is a row with a time at which the CA is asked next. Replicas share them by a
// lease. A CA that does not answer is left alone for a while, and what it last said holds on; no certificate waits for
// an answer to be renewed.
package advice

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

const (
	// batch is how many questions are claimed at once, atOnce how many CAs are asked side by side.
	batch  = 64
	atOnce = 8
	// patience is for one answer, lease for a batch of them.
	patience = 20 * time.Second
	lease    = 5 * time.Minute
	// Between two questions about one certificate, whatever is said (RFC 9773 section 4.3.3).
	soonest, latest = time.Minute, 24 * time.Hour
	// maxText bounds what is kept of a CA's words.
	maxText = 1000
)

// again spaces questions that were not answered.
var again = retry.Policy{Base: soonest, Cap: 6 * time.Hour, Jitter: 0.3}

// Question is a newest version that a CA is to be asked about.
type Question struct {
	CertificateID, VersionID, IssuerID string
	PEMChain                           string
	IssuedAt, NotAfter                 time.Time
	// Known is what the CA said before.
	Known Known
}

// Known is what is known of a CA's advice about a version.
type Known struct {
	renewal.Advice
	// Explanation is a page that says why, if the CA names one.
	Explanation string
	// ToldAt is when the CA last said so; zero if it never has.
	ToldAt time.Time
	// NextAskAt is when it is asked again.
	NextAskAt time.Time
	// Failures counts its silences since, and Error is the latest one's reason.
	Failures int
	Error    string
}

// Answer is what is known after a question.
type Answer struct {
	CertificateID, VersionID string
	Known
}

// Issuers finds the CA behind an issuer's id.
type Issuers interface {
	Issuer(ctx context.Context, id string) (ca.Issuer, error)
}

// Store keeps advice.
type Store interface {
	// ClaimAdvice takes questions that are due and holds them until the lease ends. Versions that are not the newest any
	// more, or of which no renewal can come, are asked about no more.
	ClaimAdvice(ctx context.Context, now, lease time.Time, limit int) ([]Question, error)
	// NoteAdvice stores answers, and has certificates looked at by the moments that were drawn.
	NoteAdvice(ctx context.Context, answers []Answer) error
}

// Desk asks. It is safe for concurrent use.
type Desk struct {
	Store   Store
	Issuers Issuers
	Clock   clock.Clock
	Log     *slog.Logger
	// Chance draws moments from windows; nil is the process's own source.
	Chance func() float64
	// Stopping is closed when nobody is to be waited for any more; nil is never.
	Stopping <-chan struct{}
}

// Work asks what is due to be asked. It reports whether more may be waiting.
func (d *Desk) Work(ctx context.Context) (more bool, err error) {
	now := d.Clock.Now()
	questions, err := d.Store.ClaimAdvice(ctx, now, now.Add(lease), batch)
	if err != nil || len(questions) == 0 {
		return false, err
	}
	asking, stop := d.untilStopped(ctx)
	defer stop()
	answers := make([]Answer, len(questions))
	silent := silences{by: map[string]error{}}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range questions {
		g.Go(func() error {
			q := &questions[i]
			said, err := d.ask(asking, q, &silent)
			answers[i] = Answer{CertificateID: q.CertificateID, VersionID: q.VersionID, Known: After(q, said, err, d.Clock.Now(), d.chance())}
			if err != nil {
				d.Log.DebugContext(ctx, "a CA does not say when to renew", obs.KeyCertificate, q.CertificateID, obs.KeyIssuer, q.IssuerID, obs.KeyError, err)
			}
			return nil
		})
	}
	_ = g.Wait() // nobody fails: an error is an answer as well
	if asking.Err() != nil {
		// What was cut short says nothing of the CA. It comes again when the lease ends.
		return false, nil
	}
	return len(questions) == batch, d.Store.NoteAdvice(ctx, answers)
}

func (d *Desk) untilStopped(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	if d.Stopping == nil {
		return ctx, cancel
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-d.Stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(); watching.Wait() }
}

func (d *Desk) chance() float64 {
	chance := d.Chance
	if chance == nil {
		chance = rand.Float64
	}
	return chance()
}

// silences are the issuers that cannot be asked, so that one of them does not hold up a batch by its own many.
type silences struct {
	mu sync.Mutex
	by map[string]error // guarded by mu
}

func (s *silences) of(issuer string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[issuer]
}

func (s *silences) note(issuer string, err error) {
	if code := fault.CodeOf(err); err == nil || code != fault.Unavailable && code != fault.RateLimited {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[issuer] = err
}

func (d *Desk) ask(ctx context.Context, q *Question, silent *silences) (said ca.RenewalAdvice, err error) {
	if err := silent.of(q.IssuerID); err != nil {
		return said, err
	}
	defer func() { silent.note(q.IssuerID, err) }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	issuer, err := d.Issuers.Issuer(ctx, q.IssuerID)
	if err != nil {
		return said, err
	}
	adviser, ok := issuer.(ca.RenewalAdviser)
	if !ok {
		return said, fault.New(fault.NotFound, "issuer %s does not say when to renew", q.IssuerID)
	}
	certs, err := x509x.ParseCertificates([]byte(q.PEMChain))
	if err != nil {
		return said, fault.Wrap(err, fault.Invalid, "the certificate cannot be read")
	}
	return adviser.RenewalAdvice(ctx, certs[0].Raw)
}

// After is what is known once a CA has answered, or has not. A moment is drawn once for each window; what a silent CA has
// said before holds on.
func After(q *Question, said ca.RenewalAdvice, err error, now time.Time, chance float64) Known {
	k := q.Known
	if err == nil {
		if k.At.IsZero() || !k.Same(said.Start, said.End) {
			k.Advice = renewal.Draw(said.Start, said.End, q.IssuedAt, q.NotAfter, chance)
		}
		k.Explanation, k.ToldAt, k.Failures, k.Error = link(said.Explanation), now, 0, ""
		k.NextAskAt = now.Add(min(max(said.Again, soonest), latest))
		return k
	}
	f := fault.From(err)
	k.Failures++
	k.Error = cut(f.Message)
	wait := max(again.Delay(k.Failures, func() float64 { return chance }), f.RetryAfter)
	if f.Code == fault.NotFound || f.Code == fault.Invalid {
		wait = latest
	}
	k.NextAskAt = now.Add(min(max(wait, soonest), latest))
	return k
}
