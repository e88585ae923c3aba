package desk

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// update follows changes of certificates' records: what is on its way to a target that
// was taken away is called off, and one that was added gets the newest version.
func (d *Desk) update(ctx context.Context, tx pgx.Tx, s *said, events []heard[event.CertificateUpdated]) error {
	newest := map[string]heard[event.CertificateUpdated]{}
	var versions []heard[event.CertificateIssued]
	for _, h := range events {
		if before, seen := newest[h.Event.CertificateID]; !seen || before.AggVersion <= h.AggVersion {
			newest[h.Event.CertificateID] = h
		}
		if h.Event.Newest.VersionID != "" {
			versions = append(versions, heard[event.CertificateIssued]{versionOf(h.Event), h.Message})
		}
	}
	// A certificate that had no target when it was issued was not kept, so its version
	// may be news.
	issued, causes := newestIssued(versions)
	if err := d.deploy(ctx, tx, s, issued, causes); err != nil {
		return err
	}
	var updates []postgres.Update
	var ids []string
	for _, h := range ordered(newest) {
		updates, ids = append(updates, updateOf(h)), append(ids, h.Event.CertificateID)
	}
	added, err := postgres.NoteUpdated(ctx, tx, updates)
	if err != nil {
		return err
	}
	if err := postgres.CancelDropped(ctx, tx, ids, s.now); err != nil || len(added) == 0 {
		return err
	}
	return d.extend(ctx, tx, s, added, newest)
}

// extend begins the jobs of targets that were added.
func (d *Desk) extend(ctx context.Context, tx pgx.Tx, s *said, added []postgres.Added, events map[string]heard[event.CertificateUpdated]) error {
	var targets, versions, certificates []string
	var revisions []int64
	for _, a := range added {
		targets, versions = append(targets, a.TargetIDs...), append(versions, a.VersionID)
		certificates, revisions = append(certificates, a.CertificateID), append(revisions, events[a.CertificateID].AggVersion)
	}
	p := plan{desk: d, said: s}
	var err error
	if p.places, err = postgres.Places(ctx, tx, unique(targets)); err != nil {
		return err
	}
	if p.versions, err = postgres.Versions(ctx, tx, versions); err != nil {
		return err
	}
	later, err := postgres.LaterWishes(ctx, tx, certificates, revisions)
	if err != nil {
		return err
	}
	for _, a := range added {
		cause := outgoing.After(events[a.CertificateID].Message)
		for _, target := range a.TargetIDs {
			if later[postgres.Granted{CertificateID: a.CertificateID, TargetID: target}] {
				continue
			}
			p.jobs = append(p.jobs, newJob(p.versions[a.VersionID], target, d.Policy.MaxAttempts, cause))
			p.causes = append(p.causes, cause)
		}
	}
	if err := p.begin(); err != nil {
		return err
	}
	return p.insert(ctx, tx)
}

func versionOf(e event.CertificateUpdated) event.CertificateIssued {
	return event.CertificateIssued{
		CertificateID: e.CertificateID, IssuerID: e.IssuerID, CommonName: e.CommonName, TargetIDs: e.TargetIDs,
		KeyAgentID: e.KeyAgentID, Version: e.Newest,
	}
}

func updateOf(h heard[event.CertificateUpdated]) postgres.Update {
	e := h.Event
	return postgres.Update{
		Certificate: postgres.Certificate{
			ID: e.CertificateID, CommonName: e.CommonName, IssuerID: e.IssuerID, TeamID: e.TeamID,
			Environment: e.Environment, TargetIDs: unique(e.TargetIDs), Revision: h.AggVersion,
		},
		TeamBefore: textBefore(e.Changes, "team_id"), EnvironmentBefore: textBefore(e.Changes, "environment"),
	}
}

// textBefore is what a field was before a change, nil if the change is not about it.
func textBefore(c event.Changes, field string) *string {
	change, there := c[field]
	if before, isText := change.Before.(string); there && isText {
		return &before
	}
	return nil
}
