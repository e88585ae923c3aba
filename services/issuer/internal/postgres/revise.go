package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

const openJobSQL = `SELECT id, status, agent_id FROM jobs
WHERE certificate_id = $1 AND status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')`

// Revise implements [issuance.Store].
func (s *Store) Revise(
	ctx context.Context, scope authn.Scope, id string, decide func(issuance.Held) (issuance.Revised, error),
) (issuance.Certificate, error) {
	var r issuance.Revised
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		h, err := hold(ctx, tx, scope, id)
		if err != nil {
			return err
		}
		if r, err = decide(h); err != nil || len(r.Facts) == 0 {
			return err
		}
		if err := revise(ctx, tx, &h, &r); err != nil {
			return err
		}
		return tell(ctx, tx, h.Revision+1, r.Facts...)
	})
	if err != nil {
		return issuance.Certificate{}, err
	}
	s.hooks.Told()
	s.hooks.Look()
	if r.Wake {
		s.hooks.Due()
	}
	return r.Certificate, nil
}

// hold locks a certificate and its open job, in the order in which everybody does.
func hold(ctx context.Context, tx pgx.Tx, scope authn.Scope, id string) (h issuance.Held, err error) {
	if err := openJob(ctx, tx, &h, openJobSQL+` FOR UPDATE`, id); err != nil {
		return h, err
	}
	locked := h.JobID
	c := conditions{args: []any{id}}
	c.scope(scope)
	h.Certificate, err = one(ctx, tx, row[issuance.Certificate]{"certificate", id, scanCertificate},
		`SELECT `+certificateColumns+` FROM certificates c WHERE c.id = $1`+c.and()+` FOR UPDATE`, c.args...)
	if err != nil {
		return h, err
	}
	// One may have begun, or ended, until the certificate was locked; none can begin any more.
	if err := openJob(ctx, tx, &h, openJobSQL, id); err != nil {
		return h, err
	}
	if h.JobID != "" && h.JobID != locked {
		return h, fault.New(fault.Conflict, "certificate %s changed meanwhile: job %s has begun; look at it again", id, h.JobID)
	}
	rows, err := tx.Query(ctx, `SELECT target_id, `+servedAs+` FROM certificate_targets ct JOIN certificates c ON c.id = ct.certificate_id
		WHERE c.id = $1 ORDER BY position`, id)
	if err != nil {
		return h, fmt.Errorf("read the targets of %s: %w", id, err)
	}
	h.Targets, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t issuance.Target, err error) {
		err = row.Scan(&t.ID, &t.VersionID)
		return t, err
	})
	if err != nil {
		return h, fmt.Errorf("read the targets of %s: %w", id, err)
	}
	return h, newest(ctx, tx, &h)
}

func openJob(ctx context.Context, tx pgx.Tx, h *issuance.Held, sql, id string) error {
	h.JobID, h.JobStatus, h.JobAgentID = "", "", ""
	err := tx.QueryRow(ctx, sql, id).Scan(&h.JobID, &h.JobStatus, &h.JobAgentID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read the job of %s: %w", id, err)
	}
	return nil
}

// newest reads the newest version and whose agent has its key.
func newest(ctx context.Context, tx pgx.Tx, h *issuance.Held) error {
	if h.VersionID == "" {
		return nil
	}
	version, err := one(ctx, tx, row[issuance.Version]{"version", h.VersionID, collectVersion},
		`SELECT `+versionColumns+` FROM certificate_versions v WHERE v.id = $1`, h.VersionID)
	if err != nil {
		return err
	}
	h.Version = &version
	if version.JobID == "" {
		return nil
	}
	if err := tx.QueryRow(ctx, `SELECT agent_id FROM jobs WHERE id = $1`, version.JobID).Scan(&h.KeyAgentID); err != nil {
		return fmt.Errorf("read job %s: %w", version.JobID, err)
	}
	return nil
}

const (
	reviseSQL = `UPDATE certificates SET name = $2, common_name = $3, sans = $4, environment = $5, owner_id = $6, team_id = $7,
	issuer_id = $8, renewal_policy_id = $9, certificate_profile_id = $15, tags = $10::jsonb, status = $11, status_reason = $12,
	version = $13, updated_at = $14
WHERE id = $1`
	// A profile is not removed while a certificate takes it up.
	keepProfileSQL = `SELECT FROM certificate_profiles WHERE id = $1 FOR KEY SHARE`
	dropTargetsSQL = `DELETE FROM certificate_targets WHERE certificate_id = $1 AND target_id <> ALL($2)`
	putTargetsSQL  = `INSERT INTO certificate_targets (certificate_id, target_id, position)
SELECT $1, t.id, t.position FROM unnest($2::text[]) WITH ORDINALITY AS t (id, position)
ON CONFLICT (certificate_id, target_id) DO UPDATE SET position = EXCLUDED.position`
	// Whoever has the job in hand has to look at it again: what it is about has changed.
	wakeSQL = `UPDATE jobs SET status = 'Pending', next_action_at = $2, lease_token = lease_token + 1 WHERE id = $1`
)

func revise(ctx context.Context, tx pgx.Tx, h *issuance.Held, r *issuance.Revised) error {
	tags, err := encodeTags(r.Tags)
	if err != nil {
		return err
	}
	if r.ProfileID != "" && r.ProfileID != h.ProfileID {
		kept, err := tx.Exec(ctx, keepProfileSQL, r.ProfileID)
		switch {
		case err != nil:
			return fmt.Errorf("look for profile %s: %w", r.ProfileID, err)
		case kept.RowsAffected() == 0:
			return fault.InvalidFields(fault.Field{Name: "certificate_profile_id", Reason: "unknown profile " + r.ProfileID})
		}
	}
	_, err = tx.Exec(ctx, reviseSQL, r.ID, r.Name, r.CommonName, r.SANs, r.Environment, r.OwnerID, r.TeamID,
		r.IssuerID, r.RenewalPolicyID, tags, string(r.Status), r.StatusReason, r.Revision, r.UpdatedAt, r.ProfileID)
	if err != nil {
		return unknownReference(err, r)
	}
	targets := r.TargetIDs
	if targets == nil {
		targets = []string{}
	}
	for _, sql := range []string{dropTargetsSQL, putTargetsSQL} {
		if _, err := tx.Exec(ctx, sql, r.ID, targets); err != nil {
			return fmt.Errorf("change the targets of %s: %w", r.ID, err)
		}
	}
	if r.Wake {
		if _, err := tx.Exec(ctx, wakeSQL, h.JobID, r.UpdatedAt); err != nil {
			return fmt.Errorf("wake job %s: %w", h.JobID, err)
		}
	}
	return nil
}

// unknownReference says which reference of a certificate leads nowhere.
func unknownReference(err error, r *issuance.Revised) error {
	unknown := func(field, what, id string) error {
		return fault.InvalidFields(fault.Field{Name: field, Reason: "unknown " + what + " " + id})
	}
	if pg.IsForeignKey(err) {
		switch pg.Constraint(err) {
		case "certificates_owner_id_fkey":
			return unknown("owner_id", "owner", r.OwnerID)
		case "certificates_team_id_fkey":
			return unknown("team_id", "team", r.TeamID)
		case "certificates_renewal_policy_id_fkey":
			return unknown("renewal_policy_id", "renewal policy", r.RenewalPolicyID)
		case "certificates_issuer_id_fkey":
			return unknown("issuer_id", "issuer", r.IssuerID)
		}
	}
	return fmt.Errorf("change certificate %s: %w", r.ID, err)
}
