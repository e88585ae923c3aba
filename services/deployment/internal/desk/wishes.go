package desk

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// grant begins the jobs of versions that somebody wants on targets now, the newest or
// not, and calls off those of other versions there.
func (d *Desk) grant(ctx context.Context, tx pgx.Tx, s *said, events []heard[event.CertificateDeploymentRequested]) error {
	// One by one: each is a click of somebody, and may concern what the one before did.
	for _, h := range events {
		if err := d.grantOne(ctx, tx, s, h); err != nil {
			return err
		}
	}
	return nil
}

func (d *Desk) grantOne(ctx context.Context, tx pgx.Tx, s *said, h heard[event.CertificateDeploymentRequested]) error {
	e, cause := h.Event, outgoing.After(h.Message)
	v := rollout.Version{
		ID: e.VersionID, CertificateID: e.CertificateID, Fingerprint: strings.ToLower(e.FingerprintSHA256),
		NotBefore: e.NotBefore, NotAfter: e.NotAfter, PEMChain: e.PEMChain, KeyAgentID: e.KeyAgentID, Revision: h.AggVersion,
	}
	of := []postgres.Issued{{
		Certificate: postgres.Certificate{ID: e.CertificateID, CommonName: e.CommonName, IssuerID: e.IssuerID}, Version: v,
	}}
	targets := unique(e.TargetIDs)
	wishes := make([]postgres.Wish, len(targets))
	for i, target := range targets {
		wishes[i] = postgres.Wish{CertificateID: e.CertificateID, TargetID: target, VersionID: v.ID, Revision: h.AggVersion}
	}
	granted, err := postgres.GrantWishes(ctx, tx, of, wishes)
	if err != nil || len(granted) == 0 {
		return err
	}
	p := plan{desk: d, said: s, versions: map[string]rollout.Version{v.ID: v}}
	var dooms []postgres.Doom
	for _, target := range targets {
		if !granted[postgres.Granted{CertificateID: e.CertificateID, TargetID: target}] {
			continue
		}
		dooms = append(dooms, postgres.Doom{
			CertificateID: e.CertificateID, TargetID: target, ExceptVersion: v.ID, Revision: h.AggVersion,
			Reason: "superseded by version " + v.ID + ", which " + e.RequestedBy + " asked for",
		})
		p.jobs = append(p.jobs, newJob(v, target, d.Policy.MaxAttempts, cause))
		p.causes = append(p.causes, cause)
	}
	if err := postgres.CancelJobs(ctx, tx, dooms, s.now); err != nil {
		return err
	}
	if p.places, err = postgres.Places(ctx, tx, targets); err != nil {
		return err
	}
	if err := p.begin(); err != nil {
		return err
	}
	return p.insert(ctx, tx)
}

// Again does the work of a job that failed or was called off once more, as a new job, and
// returns its id. It is a Conflict if that makes no sense any more.
func (d *Desk) Again(ctx context.Context, tx pgx.Tx, j *rollout.Job, cause outgoing.Cause) (string, error) {
	if j.Status != rollout.Failed && j.Status != rollout.Cancelled {
		return "", fault.New(fault.Conflict, "job %s is %s; only what has failed or was cancelled is done again", j.ID, j.Status)
	}
	standing, err := postgres.JobStanding(ctx, tx, j)
	switch {
	case err != nil:
		return "", err
	case standing.Archived:
		return "", fault.New(fault.Conflict, "certificate %s is archived", j.CertificateID)
	case standing.Later != "":
		return "", fault.New(fault.Conflict, "job %s has taken the place of job %s", standing.Later, j.ID)
	case !standing.Wanted:
		return "", fault.New(fault.Conflict, "certificate %s is not installed on target %s any more", j.CertificateID, j.TargetID)
	}
	p := plan{desk: d, said: &said{now: d.Clock.Now()}, causes: []outgoing.Cause{cause}}
	if p.places, err = postgres.Places(ctx, tx, []string{j.TargetID}); err != nil {
		return "", err
	}
	if p.versions, err = postgres.Versions(ctx, tx, []string{j.VersionID}); err != nil {
		return "", err
	}
	v := p.versions[j.VersionID]
	if why := rollout.Objection(v, j.TargetID, p.places[j.TargetID], p.said.now); why != "" {
		return "", fault.New(fault.Conflict, "%s", why)
	}
	again := newJob(v, j.TargetID, j.MaxAttempts, cause)
	again.Type = j.Type
	p.jobs = []*rollout.Job{again}
	if err := p.begin(); err != nil {
		return "", err
	}
	if err := p.insert(ctx, tx); err != nil {
		return "", err
	}
	return again.ID, p.said.write(ctx, tx)
}
