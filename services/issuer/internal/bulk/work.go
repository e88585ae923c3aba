package bulk

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// batchSize is how many items are done in one transaction: enough to spread its cost, few enough that a cancellation and
// whoever wants one of these certificates do not wait.
const batchSize = 200

// Batch is the next part of an operation. The certificates are locked; those that are not there, or not within the
// operation's scope, are missing. Busy are those with a job that is not over.
type Batch struct {
	Operation    Operation
	Items        []Item
	Certificates map[string]Chosen
	Busy         map[string]bool

	// What is to be stored, besides the items.
	Starts     []issuance.Start
	Breaches   []issuance.Breach
	Archived   []Told
	Reassigned []Told
}

// Told is a certificate that changes, with the fact that tells of it.
type Told struct {
	CertificateID string
	Fact          issuance.Fact
}

// Work does the next batch of an operation, and reports whether there may be more.
func (s *Service) Work(ctx context.Context) (more bool, err error) {
	var of string
	more, err = s.store.NextBatch(ctx, batchSize, func(ctx context.Context, b *Batch) error {
		of = b.Operation.ID
		return s.decide(ctx, b)
	})
	if err == nil || of == "" || fault.CodeOf(err) == fault.Unavailable {
		return more, err
	}
	// Nothing is gained by doing it again, and others wait behind it.
	s.log.ErrorContext(ctx, "a bulk operation is given up", "operation", of, obs.KeyError, err)
	if _, endErr := s.store.EndBulk(ctx, Viewer{}, of, Failed, fault.From(err).Message); endErr != nil && fault.CodeOf(endErr) != fault.Conflict {
		return false, endErr
	}
	return true, nil
}

// decide gives each item of a batch its outcome.
func (s *Service) decide(ctx context.Context, b *Batch) error {
	now := s.clock.Now()
	for i := range b.Items {
		it := &b.Items[i]
		it.Status = ItemSucceeded
		c, there := b.Certificates[it.CertificateID]
		var err error
		if there {
			err = refusal(b.Operation.Action, &c)
		} else {
			err = fault.New(fault.NotFound, "%s", absent(it.CertificateID))
		}
		if err == nil {
			err = s.act(ctx, b, it, &c, now)
		}
		switch fault.CodeOf(err) {
		case "":
		case fault.Unavailable, fault.Internal:
			return err
		default:
			it.Status, it.Reason = ItemRefused, fault.From(err).Message
		}
	}
	return nil
}

// act notes what becomes of one certificate.
func (s *Service) act(ctx context.Context, b *Batch, it *Item, c *Chosen, now time.Time) error {
	origin := b.Operation.Origin
	switch b.Operation.Action {
	case Renew:
		if b.Busy[c.ID] {
			return fault.New(fault.Conflict, "a job for certificate %s is under way already", c.ID)
		}
		start, err := s.certificates.BeginRenewal(ctx, origin, &c.Certificate, c.First)
		// Also of what is refused.
		b.Breaches = append(b.Breaches, start.Breaches...)
		if err != nil {
			return err
		}
		it.JobID = start.Job.ID
		b.Starts = append(b.Starts, start)
	case Archive:
		b.Archived = append(b.Archived, Told{c.ID, issuance.Fact{Event: event.CertificateArchived{CertificateID: c.ID}, Origin: origin, At: now}})
	case Reassign:
		if e, changed := reassigned(c, b.Operation.To); changed {
			b.Reassigned = append(b.Reassigned, Told{c.ID, issuance.Fact{Event: e, Origin: origin, At: now}})
		}
	}
	return nil
}

// reassigned is the event that tells of a reassignment, false if it changes nothing.
func reassigned(c *Chosen, to Destination) (event.CertificateUpdated, bool) {
	e := event.CertificateUpdated{
		CertificateID: c.ID, CommonName: c.CommonName, IssuerID: c.IssuerID, OwnerID: c.OwnerID, TeamID: c.TeamID,
		Environment: c.Environment, TargetIDs: c.TargetIDs, Changes: event.Changes{},
	}
	if e.TargetIDs == nil {
		e.TargetIDs = []string{}
	}
	for _, f := range [...]struct {
		name string
		to   *string
		at   *string
	}{{"owner_id", to.OwnerID, &e.OwnerID}, {"team_id", to.TeamID, &e.TeamID}, {"environment", to.Environment, &e.Environment}} {
		if f.to != nil && *f.to != *f.at {
			e.Changes[f.name] = event.Change{Before: *f.at, After: *f.to}
			*f.at = *f.to
		}
	}
	return e, len(e.Changes) > 0
}

// NextDue implements the worker's schedule: operations are never due later. Those that another replica has given up are
// found by the sweep.
func (s *Service) NextDue(context.Context) (time.Time, bool, error) { return time.Time{}, false, nil }
