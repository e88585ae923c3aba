package issuance

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/record"
)

// Update is what is to be different about the record of a certificate. Nil leaves a field as it is, and so does an empty
// id.
type Update struct {
	Name, CommonName, Environment              *string
	OwnerID, TeamID, IssuerID, RenewalPolicyID *string
	SANs, TargetIDs                            *[]string
	Tags                                       *map[string]string
	// ProfileID may be empty: the certificate is then held to no profile any more.
	ProfileID *string
}

// Held is a certificate while it is held for a change, with what the change depends on.
type Held struct {
	Certificate
	// JobID is the job that is not over, empty if there is none.
	JobID      string
	JobStatus  JobStatus
	JobAgentID string
	// Targets say what each serves.
	Targets []Target
	// Version is the newest one, nil if there is none; KeyAgentID is the agent that has its key, if one has.
	Version    *Version
	KeyAgentID string
}

// Revised is what becomes of a certificate whose record is changed.
type Revised struct {
	Certificate
	// Facts are told in their order. Without one nothing is written.
	Facts []Fact
	// Wake tells that the open job, which waited for its requester, is now a worker's.
	Wake bool
}

// Update merges an update into the record of a certificate. The issuer, the names and the renewal policy count from the
// next issue on. seen refuses a revision other than the one that the sender has seen; nil refuses none.
func (s *Service) Update(
	ctx context.Context, p authn.Principal, o Origin, certificateID string, u Update, seen func(revision int64) error,
) (Certificate, error) {
	before, err := s.store.Certificate(ctx, p.Scope, certificateID)
	if err != nil {
		return Certificate{}, err
	}
	if seen == nil {
		seen = func(int64) error { return nil }
	}
	if err := seen(before.Revision); err != nil {
		return Certificate{}, err
	}
	// Asked of others, so before the row is locked; the lock keeps what has been asked true as far as it can be.
	after, err := u.onto(&before, s.clock.Now())
	if err != nil {
		return Certificate{}, err
	}
	if err := s.checkProfile(ctx, &after, before.ProfileID); err != nil {
		return Certificate{}, err
	}
	if u.IssuerID != nil && *u.IssuerID != "" && *u.IssuerID != before.IssuerID {
		if _, err := s.usable(ctx, *u.IssuerID); err != nil {
			return Certificate{}, err
		}
	}
	if u.TargetIDs != nil && !slices.Equal(*u.TargetIDs, before.TargetIDs) {
		if _, err := s.reach(ctx, *u.TargetIDs); err != nil {
			return Certificate{}, err
		}
	}
	return s.store.Revise(ctx, p.Scope, certificateID, func(h Held) (Revised, error) {
		if err := seen(h.Revision); err != nil {
			return Revised{}, err
		}
		return revise(&h, u, p, o, s.clock.Now())
	})
}

// revise decides what becomes of a certificate.
func revise(h *Held, u Update, p authn.Principal, o Origin, now time.Time) (Revised, error) {
	if h.Status == Archived {
		return Revised{}, fault.New(fault.Conflict, "certificate %s is archived, and stays as it is", h.ID)
	}
	after, err := u.onto(&h.Certificate, now)
	if err != nil {
		return Revised{}, err
	}
	if err := within(p, &after); err != nil {
		return Revised{}, err
	}
	r := Revised{Certificate: after}
	changes := record.Changes(h.fields(), after.fields())
	if len(changes) == 0 {
		return Revised{Certificate: h.Certificate}, nil
	}
	_, named := changes["sans"]
	_, moved := changes["target_ids"]
	if err := underWay(h, named, moved); err != nil {
		return Revised{}, err
	}
	updated := event.CertificateUpdated{
		CertificateID: after.ID, CommonName: after.CommonName, IssuerID: after.IssuerID, OwnerID: after.OwnerID,
		TeamID: after.TeamID, Environment: after.Environment, TargetIDs: nonNil(after.TargetIDs), Changes: changes,
	}
	if moved && h.Version != nil {
		updated.Newest, updated.KeyAgentID = h.Version.event(), h.KeyAgentID
	}
	r.Revision++
	r.Facts = append(r.Facts, Fact{Event: updated, Origin: o, At: now})
	if !moved {
		return r, nil
	}
	switch {
	case h.JobStatus == JobAwaitingCSR && len(after.TargetIDs) > 0:
		r.Wake, r.StatusReason = true, waitsForAgent
	case h.JobID == "" && h.Version != nil && after.Status.CanBecome(Active) && now.Before(after.ExpiresAt) && h.servedBy(after.TargetIDs):
		// What it waited for, or failed by, was a target that is gone.
		r.Status, r.StatusReason = Active, ""
		r.Revision++
		r.Facts = append(r.Facts, Activation(after.ID, after.VersionID, o, "", now))
	}
	return r, nil
}

// onto is a certificate's record after the update, in normal form.
func (u *Update) onto(c *Certificate, now time.Time) (Certificate, error) {
	r := Request{
		ID: c.ID, Name: c.Name, CommonName: c.CommonName, Environment: c.Environment, OwnerID: c.OwnerID, TeamID: c.TeamID,
		IssuerID: c.IssuerID, RenewalPolicyID: c.RenewalPolicyID, ProfileID: c.ProfileID, TargetIDs: c.TargetIDs, Tags: c.Tags,
	}
	// A name that is changed by itself takes the place of the one before.
	r.SANs = slices.DeleteFunc(slices.Clone(c.SANs), func(name string) bool { return name == c.CommonName })
	for _, field := range [...]struct {
		of    *string
		given *string
	}{{&r.Name, u.Name}, {&r.CommonName, u.CommonName}, {&r.Environment, u.Environment}} {
		if field.given != nil {
			*field.of = *field.given
		}
	}
	for _, ref := range [...]struct {
		of    *string
		given *string
	}{{&r.OwnerID, u.OwnerID}, {&r.TeamID, u.TeamID}, {&r.IssuerID, u.IssuerID}, {&r.RenewalPolicyID, u.RenewalPolicyID}} {
		if ref.given != nil && *ref.given != "" {
			*ref.of = *ref.given
		}
	}
	if u.ProfileID != nil {
		r.ProfileID = *u.ProfileID
	}
	if u.SANs != nil {
		r.SANs = *u.SANs
	}
	if u.TargetIDs != nil {
		r.TargetIDs = *u.TargetIDs
	}
	if u.Tags != nil {
		r.Tags = *u.Tags
	}
	d, err := r.draft(now)
	if err != nil {
		return Certificate{}, err
	}
	after := *c
	after.Name, after.CommonName, after.SANs, after.Environment, after.Tags = d.Name, d.CommonName, d.SANs, d.Environment, d.Tags
	after.OwnerID, after.TeamID, after.IssuerID, after.RenewalPolicyID = d.OwnerID, d.TeamID, d.IssuerID, d.RenewalPolicyID
	after.ProfileID, after.TargetIDs, after.UpdatedAt = d.ProfileID, d.TargetIDs, now
	return after, nil
}

// underWay refuses to change what an open job is about. Targets may change as long as nothing has been begun for them.
func underWay(h *Held, named, moved bool) error {
	waits := h.JobStatus == JobAwaitingApproval || h.JobStatus == JobAwaitingCSR && h.JobAgentID == ""
	if h.JobID == "" || !named && (!moved || waits) {
		return nil
	}
	return fault.New(fault.Conflict,
		"job %s of certificate %s is %s; names and targets cannot be changed under it: wait for its end, or cancel it", h.JobID, h.ID, h.JobStatus)
}

// servedBy reports whether each of the targets serves the newest version.
func (h *Held) servedBy(targets []string) bool {
	for _, id := range targets {
		if !slices.ContainsFunc(h.Targets, func(t Target) bool { return t.ID == id && t.VersionID == h.VersionID }) {
			return false
		}
	}
	return true
}

// fields are the record's, as the API names them.
func (c *Certificate) fields() record.Fields {
	tags := c.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return record.Fields{
		"name": c.Name, "common_name": c.CommonName, "sans": nonNil(c.SANs), "environment": c.Environment,
		"owner_id": c.OwnerID, "team_id": c.TeamID, "issuer_id": c.IssuerID, "renewal_policy_id": c.RenewalPolicyID,
		"certificate_profile_id": c.ProfileID, "target_ids": nonNil(c.TargetIDs), "tags": tags,
	}
}
