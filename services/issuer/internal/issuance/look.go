package issuance

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

const (
	// lookBatch is how many certificates are looked at in one transaction.
	lookBatch = 200
	// rescheduleBatch is how many certificates of a policy that has changed are gone through in one statement.
	rescheduleBatch = 2000
	// lookAgain is when a certificate is looked at again whose renewal found no room with its issuer; half of it at
	// the least, the rest spread.
	lookAgain = 10 * time.Second
	// lookUnknown is when one is whose agent's groups could not be found out.
	lookUnknown = 5 * time.Minute
	// lookGroup is how long a change of an agent's groups may go unnoticed.
	lookGroup = 24 * time.Hour
)

// Look is a certificate with a version whose time to be looked at has come.
type Look struct {
	Certificate
	// Policy is its own; which one is in force depends on its agent.
	Policy  renewal.Policy
	Targets []Target
	// IssuedAt is when its newest version was made, Failed when the latest renewal of that version ended without one.
	IssuedAt, Failed time.Time
	// Told is the lowest threshold that has been told of for that version.
	Told *int
	// Advised is when its CA wants it to be renewed, without the window's start.
	Advised renewal.Advice
}

// Looks is what there is to be looked at, locked against changes by others.
type Looks struct {
	Rows    []Look
	Default renewal.Policy
	// InProgress counts the renewals under way by their issuers. From then on nobody else begins any of their own accord,
	// until these steps have been stored.
	InProgress func(context.Context) (map[string]int, error)
}

// Step is what becomes of a certificate that was looked at: what people are told, or a job that begins.
type Step struct {
	CertificateID string
	// Status is the new state with its reason, empty to leave both.
	Status CertificateStatus
	Reason string
	Told   *int
	// NextActionAt is when it is looked at again, zero if there is nothing to come.
	NextActionAt time.Time
	// Facts are told in their order.
	Facts []Fact
	Job   *Job

	issuerID string
}

// Renewals is the engine that renews certificates of their own accord, and tells of those that run out.
type Renewals struct{ *Service }

// Work looks at certificates whose time has come. It reports whether more may be waiting.
func (r Renewals) Work(ctx context.Context) (more bool, err error) {
	rescheduled, err := r.store.Reschedule(ctx, rescheduleBatch)
	if err != nil {
		return false, err
	}
	now := r.clock.Now()
	begun, told := 0, 0
	n, err := r.store.Look(ctx, now, lookBatch, func(ctx context.Context, looks Looks) ([]Step, error) {
		steps, err := r.steps(ctx, &looks, now)
		begun, told = 0, 0
		for i := range steps {
			switch {
			case steps[i].Job != nil:
				begun++
			case len(steps[i].Facts) > 0:
				told++
			}
		}
		return steps, err
	})
	if err != nil {
		return false, err
	}
	if begun+told > 0 {
		r.log.InfoContext(ctx, "certificates were looked at", obs.KeyCount, n, "renewals", begun, "alerts", told)
	}
	return n == lookBatch || rescheduled > 0, nil
}

func (r Renewals) steps(ctx context.Context, looks *Looks, now time.Time) ([]Step, error) {
	steps := make([]Step, len(looks.Rows))
	for i := range looks.Rows {
		l := &looks.Rows[i]
		policy := &l.Policy
		covered, err := r.covers(ctx, policy, l.Targets)
		switch {
		case err != nil:
			r.log.WarnContext(ctx, "which policy holds for a certificate cannot be found out at the moment", obs.KeyCertificate, l.ID, obs.KeyError, err)
			steps[i] = Step{CertificateID: l.ID, Told: l.Told, NextActionAt: now.Add(lookUnknown)}
			continue
		case !covered:
			policy = &looks.Default
		}
		if steps[i], err = r.step(ctx, l, policy, now); err != nil {
			return nil, err
		}
		if next := &steps[i].NextActionAt; l.Policy.AgentGroupID != "" && next.After(now.Add(lookGroup)) {
			*next = now.Add(lookGroup)
		}
	}
	return steps, r.bound(ctx, looks, steps, now)
}

// bound puts off renewals for which their issuer has no room.
func (r Renewals) bound(ctx context.Context, looks *Looks, steps []Step, now time.Time) error {
	var inProgress map[string]int
	for i := range steps {
		s := &steps[i]
		// What waits for a person keeps no issuer busy.
		if s.Job == nil || s.Job.Status == JobAwaitingApproval || s.Job.Status == JobAwaitingCSR && s.Job.AgentID == "" {
			continue
		}
		if inProgress == nil {
			var err error
			if inProgress, err = looks.InProgress(ctx); err != nil {
				return err
			}
		}
		if inProgress[s.issuerID] < r.settings.MaxRenewals {
			inProgress[s.issuerID]++
			continue
		}
		*s = Step{
			CertificateID: s.CertificateID, Told: s.Told,
			NextActionAt: now.Add(lookAgain/2 + renewal.Spread(s.CertificateID, lookAgain/2)),
		}
	}
	return nil
}

// subject is a certificate as the rules of renewal see it.
func (s *Service) subject(l *Look, now time.Time) renewal.Certificate {
	c := renewal.Certificate{ID: l.ID, IssuedAt: l.IssuedAt, NotAfter: l.ExpiresAt, Failed: l.Failed, Told: l.Told, Advised: l.Advised}
	if _, kind, err := renews(&l.Certificate); err != nil {
		c.Why = fault.From(err).Message
	} else if kind == Issuance {
		c.Why = "it has no version yet"
	} else if len(l.Targets) == 0 && !s.settings.ServerKeys && !now.Before(l.ExpiresAt) {
		c.Why = "it has ended, and the key of a further version is its owner's: renew it with a signing request"
	} else {
		c.Renewable = true
	}
	return c
}

// step is what is to be done about a certificate now. People are told first; what falls due besides is done at the next
// look, which follows at once.
func (r Renewals) step(ctx context.Context, l *Look, p *renewal.Policy, now time.Time) (Step, error) {
	c := r.subject(l, now)
	s := Step{CertificateID: l.ID, Told: l.Told, issuerID: l.IssuerID}
	l.tell(&s, &c, p, now)
	v := p.Judge(&c, now)
	if v.Now(now) && len(s.Facts) == 0 && s.Status == "" {
		return r.begin(ctx, l, p, &c, v, now)
	}
	s.NextActionAt = p.NextMark(&c, now)
	if !v.At.IsZero() && (s.NextActionAt.IsZero() || v.At.Before(s.NextActionAt)) {
		s.NextActionAt = v.At
	}
	if v.Now(now) {
		s.NextActionAt = now
	}
	return s, nil
}

// tell sets the state that time has brought, and the event that tells of it.
func (l *Look) tell(s *Step, c *renewal.Certificate, p *renewal.Policy, now time.Time) {
	fact := func(e event.Event, told int) {
		s.Facts, s.Told = []Fact{{Event: e, Origin: Origin{Actor: System}, At: now}}, &told
	}
	if !now.Before(l.ExpiresAt) {
		if l.Told == nil || *l.Told > 0 {
			fact(event.CertificateExpired{CertificateID: l.ID, VersionID: l.VersionID, NotAfter: l.ExpiresAt}, 0)
		}
		// While a job is under way it is the job that leads on.
		if l.Status.CanBecome(Expired) && l.Status != RenewalInProgress {
			s.Status, s.Reason = Expired, l.StatusReason
		}
		return
	}
	if threshold, ok := p.Alert(c, now); ok {
		fact(event.CertificateExpiring{
			CertificateID: l.ID, VersionID: l.VersionID, NotAfter: l.ExpiresAt,
			DaysLeft: renewal.DaysLeft(l.ExpiresAt, now), Threshold: threshold,
		}, threshold)
	}
	if l.Status == Active && p.Expiring(c, now) {
		s.Status = Expiring
	}
}

// begin starts a renewal as a person would.
func (r Renewals) begin(ctx context.Context, l *Look, p *renewal.Policy, c *renewal.Certificate, v renewal.Verdict, now time.Time) (Step, error) {
	status, kind, err := renews(&l.Certificate)
	if err != nil {
		return Step{}, err
	}
	jobID := id.New(jobPrefix)
	w := l.work(Job{
		ID: jobID, Type: kind, CertificateID: l.ID, Origin: Origin{Actor: System, CorrelationID: jobID}, CreatedAt: now, Token: 1,
	}, l.Targets)
	w.under(p)
	breaches, err := r.judge(ctx, &w, kind.policyStage(), now)
	// A worker says what comes of a breach, and puts it on record.
	w.inDoubt = err != nil || len(breaches) > 0
	first, err := r.first(ctx, &w, "")
	if err != nil {
		return Step{}, err
	}
	requested := requestedEvent(&l.Certificate, w.ID, true)
	requested.Automatic, requested.Reason = true, v.Reason
	reason := first.Reason
	if v.WindowMissed {
		reason += "; " + v.Reason
	}
	return Step{
		CertificateID: l.ID, Status: status, Reason: reason, Told: l.Told, NextActionAt: p.NextMark(c, now),
		Facts: first.facts(&w, requested), Job: &first.job, issuerID: l.IssuerID,
	}, nil
}

// Plan is when a certificate is renewed of its own accord, and under which policy.
type Plan struct {
	PolicyID string
	// Opens is when the window opens, or the moment that the CA advises, NextAlert when the next threshold is reached; zero without a version.
	Opens, NextAlert time.Time
	renewal.Verdict
}

// Plan says what the engine would do about a certificate.
func (s *Service) Plan(ctx context.Context, l *Look) (Plan, error) {
	policy, err := s.policyOf(ctx, l.RenewalPolicyID, l.Targets)
	if err != nil {
		return Plan{}, err
	}
	now := s.clock.Now()
	c := s.subject(l, now)
	plan := Plan{PolicyID: policy.ID, Verdict: policy.Judge(&c, now)}
	if l.VersionID != "" {
		plan.Opens, plan.NextAlert = policy.Opens(&c), policy.NextMark(&c, now)
		if at := l.Advised.At; !at.IsZero() {
			plan.Opens = at
		}
	}
	return plan, nil
}
