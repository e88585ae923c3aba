package issuance

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/policy"
)

// Deployment is that a version of a certificate is wanted on targets now.
type Deployment struct {
	CertificateID string
	// Newest is the certificate's newest version, as it was seen; VersionID is another one for a rollback.
	Newest, VersionID string
	TargetIDs         []string
	Fact              Fact
}

// Deploy has a version installed on targets: the newest if versionID is empty, on all targets if targetID is. What the
// targets serve does not matter: it is done anyway. An older version holds until a newer one is issued, or the newest
// is deployed again.
func (s *Service) Deploy(ctx context.Context, p authn.Principal, o Origin, certificateID, targetID, versionID string) (Deployment, error) {
	c, err := s.store.Certificate(ctx, p.Scope, certificateID)
	if err != nil {
		return Deployment{}, err
	}
	targets, err := deployable(&c, targetID)
	if err != nil {
		return Deployment{}, err
	}
	if versionID == "" {
		versionID = c.VersionID
	}
	v, keyAgent, err := s.store.Version(ctx, c.ID, versionID)
	if fault.CodeOf(err) == fault.NotFound {
		return Deployment{}, fault.InvalidFields(fault.Field{Name: "version_id", Reason: "is no version of certificate " + c.ID})
	}
	if err != nil {
		return Deployment{}, err
	}
	now := s.clock.Now()
	if !v.NotAfter.After(now) {
		return Deployment{}, fault.New(fault.Conflict, "version %s expired at %s", v.ID, v.NotAfter.UTC().Format(time.RFC3339))
	}
	if err := s.Verdict(ctx, c.ID, policy.Deploy); err != nil {
		return Deployment{}, err
	}
	d := Deployment{CertificateID: c.ID, Newest: c.VersionID, VersionID: v.ID, TargetIDs: targets}
	d.Fact = Fact{Origin: o, At: now, Event: event.CertificateDeploymentRequested{
		CertificateID: c.ID, IssuerID: v.IssuerID, CommonName: c.CommonName, TargetIDs: targets, KeyAgentID: keyAgent,
		Rollback: v.ID != c.VersionID, RequestedBy: o.Actor, Version: v.event(),
	}}
	return d, s.store.Deploy(ctx, d)
}

// deployable says on which of its targets a certificate can be installed: on the one that is asked for, or on all.
func deployable(c *Certificate, targetID string) ([]string, error) {
	switch {
	case c.Status == Archived || c.Status == Revoked:
		return nil, fault.New(fault.Conflict, "certificate %s is %s and is not deployed any more", c.ID, c.Status)
	case c.VersionID == "":
		return nil, fault.New(fault.Conflict, "certificate %s has no version yet: %s", c.ID, orDefault(c.StatusReason, "it is being issued"))
	case len(c.TargetIDs) == 0:
		return nil, fault.New(fault.Conflict, "certificate %s has no targets", c.ID)
	case targetID == "":
		return c.TargetIDs, nil
	case !slices.Contains(c.TargetIDs, targetID):
		return nil, fault.InvalidFields(fault.Field{Name: "target_id", Reason: "is no target of certificate " + c.ID})
	default:
		return []string{targetID}, nil
	}
}

// Retry does the work of a job that failed or was cancelled again, by a new job. A request that came with the job is
// signed again; else a new key is asked for.
func (s *Service) Retry(ctx context.Context, p authn.Principal, o Origin, jobID string) (Triggered, error) {
	w, err := s.store.Job(ctx, p.Scope, jobID)
	if err != nil {
		return Triggered{}, err
	}
	if w.Status != JobFailed && w.Status != JobCancelled {
		return Triggered{}, fault.New(fault.Conflict, "job %s is %s; only what has failed or was cancelled is done again", w.ID, w.Status)
	}
	csr, err := s.ownRequest(ctx, &w)
	if err != nil {
		return Triggered{}, err
	}
	return s.Renew(ctx, p, o, w.CertificateID, csr)
}
