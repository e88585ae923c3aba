package issuance

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
)

// Created is the answer to a request for a certificate. Version is nil unless it was signed at once.
type Created struct {
	Certificate Certificate
	Job         Job
	Version     *Version
	// Warning says what to beware of, if there is anything.
	Warning string
}

// Create records a certificate and the job that issues it. With a signing request it is signed first, so that all of it
// is stored in one piece; a CA that cannot be reached leaves that to a worker.
func (s *Service) Create(ctx context.Context, p authn.Principal, o Origin, r Request) (Created, error) {
	now := s.clock.Now()
	c, err := r.draft(now)
	if err != nil {
		return Created{}, err
	}
	if err := within(p, &c); err != nil {
		return Created{}, err
	}
	issuer, err := s.usable(ctx, c.IssuerID)
	if err != nil {
		return Created{}, err
	}
	if err := s.checkProfile(ctx, &c, ""); err != nil {
		return Created{}, err
	}
	targets, err := s.reach(ctx, c.TargetIDs)
	if err != nil {
		return Created{}, err
	}
	policy, err := s.policyOf(ctx, c.RenewalPolicyID, targets)
	if err != nil {
		return Created{}, err
	}
	w := c.work(Job{
		ID: id.New(jobPrefix), Type: Issuance, Origin: o, CreatedAt: now, Token: 1,
	}, targets)
	// Until it is stored there is no such certificate.
	warnings, err := s.permit(ctx, &w, w.Type.policyStage(), now)
	if err != nil {
		return Created{}, err
	}
	w.CertificateID, w.ca, w.whyNot = c.ID, issuer.ca, issuer.whyNot
	for i := range warnings {
		warnings[i].Facts.CertificateID = c.ID
	}
	w.under(&policy)
	first, err := s.first(ctx, &w, r.CSRPEM)
	if err != nil {
		return Created{}, asField(err)
	}
	w.Job, c.StatusReason = first.job, first.Reason
	if v := first.Version; v != nil {
		c.VersionID, c.SerialNumber, c.Fingerprint, c.ExpiresAt = v.ID, v.SerialNumber, v.Fingerprint, v.NotAfter
	}
	facts := first.facts(&w, requestedEvent(&c, w.ID, false))
	c.Revision = int64(len(facts))
	if first.CertificateStatus != "" {
		c.Status = first.CertificateStatus
	}
	if err := s.store.Create(ctx, Creation{Certificate: c, Job: w.Job, Version: first.Version, Facts: facts, Breaches: warnings}); err != nil {
		return Created{}, err
	}
	return Created{Certificate: c, Job: w.Job, Version: first.Version, Warning: s.warning(&w, r.CSRPEM)}, nil
}

// within refuses a certificate, as it is to be, to a principal whose scope does not hold it.
func within(p authn.Principal, c *Certificate) error {
	if p.Can(authn.Scope{Teams: []string{c.TeamID}, Environments: []string{c.Environment}, Issuers: []string{c.IssuerID}, Profiles: []string{c.ProfileID}}) {
		return nil
	}
	return fault.New(fault.Forbidden,
		"your scope does not hold team %q, environment %q, issuer %q and profile %q together", c.TeamID, c.Environment, c.IssuerID, c.ProfileID)
}

// usable returns the CA of an issuer that a request names. It is Invalid if that is unknown or switched off. A CA that is
// away is waited for like any other.
func (s *Service) usable(ctx context.Context, issuerID string) (lookedUp, error) {
	f := s.lookUp(ctx, issuerID)
	switch fault.CodeOf(f.err) {
	case fault.NotFound:
		return f, fault.InvalidFields(fault.Field{Name: "issuer_id", Reason: "unknown issuer " + issuerID})
	case fault.Conflict:
		return f, fault.InvalidFields(fault.Field{Name: "issuer_id", Reason: fault.From(f.err).Message})
	default:
		return f, nil
	}
}

// checkProfile refuses a certificate whose profile is unknown or does not allow its names, or is not the one before and
// takes on no certificates.
func (s *Service) checkProfile(ctx context.Context, c *Certificate, before string) error {
	p, err := s.profile(ctx, c.ProfileID)
	if err != nil {
		return err
	}
	if p != nil && !p.Enabled && p.ID != before {
		return fault.InvalidFields(fault.Field{Name: "certificate_profile_id", Reason: "profile " + p.ID + " is disabled; enable it first"})
	}
	names, err := x509x.ParseNames(c.CommonName, c.SANs)
	if err != nil {
		return err
	}
	return p.CheckNames(names)
}

// beginning is what becomes of a new job at once, as a change and as the job after it.
type beginning struct {
	Change
	job Job
}

// facts are what is told of a job that begins, in its order: that it was asked for, and what came of it at once. A key that
// an agent is asked for at once is asked for in the same event.
func (b *beginning) facts(w *Work, requested event.CertificateRequested) []Fact {
	asked, asks := event.CertificateKeyRequested{}, false
	if b.Fact != nil {
		asked, asks = b.Fact.Event.(event.CertificateKeyRequested)
	}
	requested.KeyRequest = asked.KeyRequest
	facts := []Fact{*w.fact(requested, w.CreatedAt, "")}
	if b.Fact != nil && !asks {
		facts = append(facts, *b.Fact)
	}
	return facts
}

// first decides how a new job begins: waiting for approval, signed at once, with a worker, or waiting for whoever has
// the key. Its error is Invalid: the request for a signature is no good, and nothing is to be stored.
func (s *Service) first(ctx context.Context, w *Work, csr string) (beginning, error) {
	now := w.CreatedAt
	var c Change
	var err error
	switch {
	case w.approval > 0:
		if csr != "" {
			if _, _, _, err = s.examine(ctx, w.signing(csr)); err != nil {
				return beginning{}, err
			}
			w.CSRPEM = canonical(csr)
		}
		c = w.change(JobAwaitingApproval, now)
		c.NextActionAt = now.Add(w.approval)
		c.Reason = waitsForApproval + c.NextActionAt.Format(time.RFC3339)
	case csr != "":
		w.Attempts, w.StartedAt = 1, now
		if c, err = s.handIn(ctx, w, csr, now); err != nil {
			return beginning{}, err
		}
	case len(w.Targets) > 0:
		c = s.callOn(ctx, w, now)
	default:
		c = s.awaitKey(w, now)
	}
	b := beginning{Change: c, job: w.Job}
	b.job.Status, b.job.Attempts, b.job.CSRPEM, b.job.LastError = c.Status, c.Attempts, c.CSRPEM, c.LastError
	b.job.NextActionAt = c.NextActionAt
	if c.Version != nil {
		b.job.VersionID = c.Version.ID
	}
	if c.Status.Final() {
		b.job.CompletedAt = now
	}
	return b, nil
}

// callOn has the agent of a new job's first target asked for a key, if all that this takes is at hand; a worker sees to it
// otherwise.
func (s *Service) callOn(ctx context.Context, w *Work, now time.Time) Change {
	p, err := s.profile(ctx, w.ProfileID)
	if err == nil && decide(w) == askAgent && !w.inDoubt && !mayKeep(w, p) {
		return ask(w, p.AgentKey(), "", now, now.Add(s.settings.CSRDeadline))
	}
	c := w.change(JobPending, now)
	c.NextActionAt, c.Reason = now, waitsForAgent
	return c
}

// handIn is what becomes of a job whose requester hands in a signing request: it is signed at once if its CA is in this
// process, else as soon as a worker takes it up. Its error is Invalid: the request is no good, and nothing is to be
// stored.
func (s *Service) handIn(ctx context.Context, w *Work, csr string, now time.Time) (Change, error) {
	if s.queues(ctx, w) {
		if _, _, _, err := s.examine(ctx, w.signing(csr)); err != nil {
			return Change{}, err
		}
		return queue(w, csr, now), nil
	}
	v, err := s.sign(ctx, w.signing(csr))
	switch {
	case err == nil:
		return complete(w, v, now, ""), nil
	case fault.CodeOf(err) == fault.Invalid:
		return Change{}, err
	default:
		w.CSRPEM = canonical(csr)
		return s.setback(w, err, now, ""), nil
	}
}

// queues reports whether the request of a job is left to a worker, because its CA is elsewhere or not in service.
func (s *Service) queues(ctx context.Context, w *Work) bool {
	if w.ca == nil && w.whyNot == nil {
		_, away := s.divide(ctx, []*Work{w})
		return len(away) > 0
	}
	return elsewhere(w.ca)
}

// asField says of an error about a signing request where in the input it is.
func asField(err error) error {
	f := fault.From(err)
	if f.Code != fault.Invalid || len(f.Fields) > 0 {
		return err
	}
	return fault.InvalidFields(fault.Field{Name: "csr_pem", Reason: f.Message})
}

func requestedEvent(c *Certificate, jobID string, renewal bool) event.CertificateRequested {
	return event.CertificateRequested{
		CertificateID: c.ID, JobID: jobID, CommonName: c.CommonName, SANs: c.SANs, IssuerID: c.IssuerID,
		OwnerID: c.OwnerID, TeamID: c.TeamID, Environment: c.Environment, TargetIDs: nonNil(c.TargetIDs), Renewal: renewal,
	}
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// reach returns the targets, after asking their owner about those that are not known here.
func (s *Service) reach(ctx context.Context, ids []string) ([]Target, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	targets, err := s.store.Targets(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i, t := range targets {
		if t.AgentID != "" {
			continue
		}
		found, err := s.targets.Find(ctx, t.ID)
		if err != nil {
			return nil, err
		}
		if found.AgentID == "" {
			continue
		}
		if err := s.store.LearnTarget(ctx, found, s.clock.Now()); err != nil {
			return nil, err
		}
		targets[i] = found
	}
	return targets, checkReach(targets)
}
