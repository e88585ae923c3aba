package issuance

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// Decision is what a person decided about a job that waited for approval.
type Decision struct {
	Approved bool
	By       string
	Reason   string
	// Fact tells of it, as an event of the job.
	Fact Fact
}

// Approve lets a job go on that waits for approval. It is Forbidden to whoever asked for the job.
func (s *Service) Approve(ctx context.Context, p authn.Principal, o Origin, jobID, reason string) error {
	return s.decideJob(ctx, p, o, jobID, Decision{Approved: true, Reason: reason})
}

// Reject stops a job that waits for approval; the certificate is again what it was.
func (s *Service) Reject(ctx context.Context, p authn.Principal, o Origin, jobID, reason string) error {
	return s.decideJob(ctx, p, o, jobID, Decision{Reason: reason})
}

func (s *Service) decideJob(ctx context.Context, p authn.Principal, o Origin, jobID string, d Decision) error {
	d.By, d.Reason = p.ID, Clean(d.Reason)
	for range cancelTries {
		w, err := s.store.Job(ctx, p.Scope, jobID)
		if err != nil {
			return err
		}
		if err := d.allowed(&w); err != nil {
			return err
		}
		now := s.clock.Now()
		d.Fact = Fact{Event: d.event(&w), Origin: o, At: now}
		var c Change
		if d.Approved {
			if c, err = s.approved(ctx, &w, d.By, now); err != nil {
				return err
			}
		} else {
			w.Origin = o
			c = cancelled(&w, "rejected: "+orDefault(d.Reason, "no reason was given"), now)
		}
		applied, err := s.store.Decide(ctx, c, d)
		if err != nil || applied {
			return err
		}
	}
	return fault.New(fault.Unavailable, "job %s is being worked on; try again", jobID)
}

// allowed refuses decisions about a job that waits for none, and approvals by whoever asked for it.
func (d *Decision) allowed(w *Work) error {
	verb := "reject"
	if d.Approved {
		verb = "approve"
	}
	switch {
	case w.Status != JobAwaitingApproval:
		return fault.New(fault.Invalid, "cannot %s job with status %s (must be AwaitingApproval)", verb, w.Status)
	case d.Approved && w.Origin.Actor == d.By:
		return fault.New(fault.Forbidden, "job %s was asked for by %s, and nobody may approve what they have asked for themselves", w.ID, d.By)
	default:
		return nil
	}
}

func (d *Decision) event(w *Work) event.Event {
	decision := event.JobDecision{
		JobID: w.ID, CertificateID: w.CertificateID, Type: string(w.Type), RequestedBy: w.Origin.Actor, Reason: d.Reason,
	}
	if d.Approved {
		return event.JobApproved{JobDecision: decision}
	}
	return event.JobRejected{JobDecision: decision}
}

// approved is the change of a job that may go on: at once if a person asked for it, else as its policy's maintenance
// windows allow.
func (s *Service) approved(ctx context.Context, w *Work, by string, now time.Time) (Change, error) {
	c := w.change(JobPending, now)
	c.NextActionAt, c.Reason = now, "approved by "+by
	if w.Origin.Actor != System {
		return c, nil
	}
	policy, err := s.renewalPolicy(ctx, orDefault(w.PolicyID, renewal.Default))
	if fault.CodeOf(err) == fault.NotFound {
		return c, nil
	}
	if err != nil {
		return Change{}, err
	}
	advised, err := s.store.Advised(ctx, w.CertificateID)
	if err != nil {
		return Change{}, err
	}
	start := policy.Start(&renewal.Certificate{ID: w.CertificateID, NotAfter: w.ExpiresAt, Advised: advised}, now)
	c.NextActionAt, c.Reason = start.At, orDefault(start.Reason, c.Reason)
	return c, nil
}
