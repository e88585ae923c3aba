package desk

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// update takes in what was changed of certificates. Targets that one has got get its
// newest version.
func (d *Desk) update(ctx context.Context, tx pgx.Tx, s *said, events []heard[event.CertificateUpdated]) error {
	records, causes := updated(events)
	grown, err := postgres.NoteUpdated(ctx, tx, records, s.now)
	if err != nil || len(grown) == 0 {
		return err
	}
	p := plan{desk: d, said: s}
	var targets, versions []string
	for _, c := range grown {
		targets, versions = append(targets, c.TargetIDs...), append(versions, c.VersionID)
	}
	if p.places, err = postgres.Places(ctx, tx, unique(targets)); err != nil {
		return err
	}
	if p.versions, err = postgres.Versions(ctx, tx, unique(versions)); err != nil {
		return err
	}
	for _, c := range grown {
		for _, target := range c.TargetIDs {
			p.jobs = append(p.jobs, newJob(p.versions[c.VersionID], target, d.Policy.MaxAttempts, causes[c.ID]))
			p.causes = append(p.causes, causes[c.ID])
		}
	}
	if err := p.begin(); err != nil {
		return err
	}
	return p.insert(ctx, tx)
}

// updated keeps what is said of certificates that were changed, the newest of each.
func updated(events []heard[event.CertificateUpdated]) ([]postgres.Certificate, map[string]outgoing.Cause) {
	newest, causes := map[string]postgres.Certificate{}, map[string]outgoing.Cause{}
	for _, h := range events {
		e := h.Event
		c := postgres.Certificate{
			ID: e.CertificateID, CommonName: e.CommonName, IssuerID: e.IssuerID, TeamID: e.TeamID,
			Environment: e.Environment, TargetIDs: unique(e.TargetIDs), Revision: h.AggVersion,
		}
		if before, seen := newest[c.ID]; !seen || before.Revision <= c.Revision {
			newest[c.ID], causes[c.ID] = c, outgoing.After(h.Message)
		}
	}
	return ordered(newest), causes
}
