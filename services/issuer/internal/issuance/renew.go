package issuance

import (
	"context"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
)

// Triggered is the answer to a renewal. Version is nil unless it was signed at once.
type Triggered struct {
	JobID   string
	Version *Version
}

// renews says what a certificate becomes when it is renewed, and by which kind of job: a certificate that never had a
// version is issued after all. The error is a Conflict that says why it cannot be.
func renews(c *Certificate) (CertificateStatus, JobType, error) {
	next, kind := RenewalInProgress, Renewal
	if c.VersionID == "" {
		next, kind = Pending, Issuance
	}
	if c.Status.CanBecome(next) {
		return next, kind, nil
	}
	switch c.Status {
	case Archived:
		return "", "", fault.New(fault.Conflict, "certificate %s is archived, and archived certificates are never renewed", c.ID)
	case Revoked:
		return "", "", fault.New(fault.Conflict, "certificate %s is revoked, and revoked certificates are never renewed; make a new one", c.ID)
	case Pending:
		return "", "", fault.New(fault.Conflict, "the first issuance of certificate %s is still under way: %s", c.ID, orDefault(c.StatusReason, "it waits for a worker"))
	default:
		return "", "", fault.New(fault.Conflict, "a renewal of certificate %s is under way already: %s", c.ID, orDefault(c.StatusReason, "it waits for a worker"))
	}
}

// MayRenew says why a certificate whose key is not the caller's would not be renewed now, by its state or by the policy
// rules; nil if it would be. It puts nothing on record. First is its first target, if it has any.
func (s *Service) MayRenew(ctx context.Context, c *Certificate, first Target) error {
	_, kind, err := renews(c)
	if err != nil {
		return err
	}
	w := c.work(Job{CertificateID: c.ID}, c.reached(first))
	breaches, err := s.judge(ctx, &w, kind.policyStage(), s.clock.Now())
	if err != nil {
		return err
	}
	return forbids(breaches)
}

// reached are the certificate's targets, as far as they matter to what is decided now: the agent of the first makes keys.
func (c *Certificate) reached(first Target) []Target {
	targets := make([]Target, len(c.TargetIDs))
	for i, id := range c.TargetIDs {
		targets[i].ID = id
	}
	if len(targets) > 0 {
		targets[0].AgentID, targets[0].Enabled = first.AgentID, first.Enabled
	}
	return targets
}

// insteadOf answers a renewal that cannot begin: a signing request is handed in if that is what the one under way waits
// for, which may have begun of its own accord.
func (s *Service) insteadOf(ctx context.Context, refusal error, p authn.Principal, o Origin, c *Certificate, csr string) (Triggered, error) {
	if csr == "" || c.Status != RenewalInProgress {
		return Triggered{}, refusal
	}
	w, open, err := s.store.OpenJob(ctx, p.Scope, c.ID)
	if err != nil {
		return Triggered{}, err
	}
	if !open || w.Status != JobAwaitingCSR || len(w.Targets) > 0 {
		return Triggered{}, refusal
	}
	return s.Submit(ctx, p, o, c.ID, csr)
}

// Renewable says why a certificate cannot be renewed now; nil if it can. The error is a Conflict.
func Renewable(c *Certificate) error {
	_, _, err := renews(c)
	return err
}

// Renew begins a renewal. With a signing request it is signed at once, as on creation.
func (s *Service) Renew(ctx context.Context, p authn.Principal, o Origin, certificateID, csr string) (Triggered, error) {
	c, err := s.store.Certificate(ctx, p.Scope, certificateID)
	if err != nil {
		return Triggered{}, err
	}
	if err := Renewable(&c); err != nil {
		return s.insteadOf(ctx, err, p, o, &c, csr)
	}
	targets, err := s.store.Targets(ctx, c.TargetIDs)
	if err != nil {
		return Triggered{}, err
	}
	start, err := s.renew(ctx, o, &c, targets, csr)
	if err != nil {
		// What is refused is put on record in a transaction of its own.
		if recordErr := s.store.Record(ctx, start.Breaches); recordErr != nil {
			return Triggered{}, recordErr
		}
		return Triggered{}, err
	}
	if err := s.store.Begin(ctx, start); err != nil {
		return Triggered{}, err
	}
	return Triggered{JobID: start.Job.ID, Version: start.Version}, nil
}

// BeginRenewal decides how the renewal of a certificate begins whose key is not the caller's. It stores nothing; what
// breaks a policy rule is in the start, also if the rule refuses it. First is the first target, if there is any.
func (s *Service) BeginRenewal(ctx context.Context, o Origin, c *Certificate, first Target) (Start, error) {
	return s.renew(ctx, o, c, c.reached(first), "")
}

// renew decides how a renewal begins, and with a signing request also what becomes of it at once.
func (s *Service) renew(ctx context.Context, o Origin, c *Certificate, targets []Target, csr string) (Start, error) {
	status, kind, err := renews(c)
	if err != nil {
		return Start{}, err
	}
	policy, err := s.policyOf(ctx, c.RenewalPolicyID, targets)
	if err != nil {
		return Start{}, err
	}
	now := s.clock.Now()
	w := c.work(Job{
		ID: id.New(jobPrefix), Type: kind, CertificateID: c.ID, Origin: o, CreatedAt: now, Token: 1,
	}, targets)
	breaches, err := s.judge(ctx, &w, kind.policyStage(), now)
	if err != nil {
		return Start{}, err
	}
	if refusal := forbids(breaches); refusal != nil {
		return Start{Breaches: breaches}, refusal
	}
	w.under(&policy)
	first, err := s.first(ctx, &w, csr)
	if err != nil {
		return Start{}, asField(err)
	}
	start := Start{
		Seen: c.Status, Revision: c.Revision, Job: first.job, Status: status, Reason: first.Reason, Version: first.Version,
		Facts: first.facts(&w, requestedEvent(c, w.ID, true)), Breaches: breaches,
	}
	if first.CertificateStatus != "" {
		start.Status = first.CertificateStatus
	}
	return start, nil
}
