package desk

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// Validate has agents look whether targets of a certificate serve what they are to serve:
// all of its targets, or one. It returns a job for each, the one that is under way where
// there is one.
func (d *Desk) Validate(ctx context.Context, tx pgx.Tx, certificateID, targetID string, cause outgoing.Cause) ([]string, error) {
	expected, archived, err := postgres.Expectations(ctx, tx, certificateID, targetID)
	switch {
	case err != nil:
		return nil, err
	case archived:
		return nil, fault.New(fault.Conflict, "certificate %s is archived", certificateID)
	case len(expected) == 0 && targetID != "":
		return nil, fault.InvalidFields(fault.Field{Name: "target_id", Reason: "is no target of certificate " + certificateID})
	case len(expected) == 0:
		return nil, fault.New(fault.Conflict, "certificate %s has no targets", certificateID)
	}
	p := plan{desk: d, said: &said{now: d.Clock.Now()}}
	var targets, versions []string
	for _, e := range expected {
		if e.VersionID == "" {
			return nil, fault.New(fault.Conflict, "certificate %s has no version yet that a target could serve", certificateID)
		}
		targets, versions = append(targets, e.TargetID), append(versions, e.VersionID)
	}
	if p.places, err = postgres.Places(ctx, tx, targets); err != nil {
		return nil, err
	}
	if p.versions, err = postgres.Versions(ctx, tx, unique(versions)); err != nil {
		return nil, err
	}
	ids := make([]string, len(expected))
	for i, e := range expected {
		if ids[i] = e.UnderWay; e.UnderWay != "" {
			continue
		}
		j := newJob(p.versions[e.VersionID], e.TargetID, 1, cause)
		j.Type = rollout.TypeValidation
		ids[i] = j.ID
		p.jobs, p.causes = append(p.jobs, j), append(p.causes, cause)
	}
	if err := p.begin(); err != nil {
		return nil, err
	}
	if err := p.insert(ctx, tx); err != nil {
		return nil, err
	}
	return ids, p.said.write(ctx, tx)
}
