package issuance

import (
	"context"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

// Archive ends the management of a certificate: the record stays, an open job is cancelled, and it is never renewed. To
// archive it again changes nothing.
func (s *Service) Archive(ctx context.Context, p authn.Principal, o Origin, certificateID string) error {
	fact := Fact{Event: event.CertificateArchived{CertificateID: certificateID}, Origin: o, At: s.clock.Now()}
	return s.store.Archive(ctx, p.Scope, certificateID, fact)
}

// cancelTries is how often a cancellation runs after a job that changes under its hands.
const cancelTries = 5

// Cancel stops a job that has not ended. It is a Conflict if it has.
func (s *Service) Cancel(ctx context.Context, p authn.Principal, o Origin, jobID string) error {
	for range cancelTries {
		w, err := s.store.Job(ctx, p.Scope, jobID)
		if err != nil {
			return err
		}
		if !w.Status.CanBecome(JobCancelled) {
			return fault.New(fault.Conflict, "job %s is %s already", jobID, w.Status)
		}
		w.Origin = o
		applied, err := s.store.Apply(ctx, []Change{cancelled(&w, "cancelled by "+o.Actor, s.clock.Now())})
		if err != nil {
			return err
		}
		if applied[jobID] {
			return nil
		}
	}
	return fault.New(fault.Unavailable, "job %s is being worked on; try again", jobID)
}
