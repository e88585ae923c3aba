package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Targets of one certificate may be heard of in two transactions at once; neither would see the other's, and neither
// would find the certificate to be served everywhere. So each locks the certificates first.
const lockSQL = `SELECT id FROM certificates WHERE id = ANY($1) ORDER BY id FOR UPDATE`

const noOpenJob = `NOT EXISTS (SELECT FROM jobs j WHERE j.certificate_id = c.id
	AND j.status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running'))`

var completedSQL = `WITH input AS (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS i (certificate_id, version_id, target_id, at)
), seen AS (
	UPDATE certificate_targets t SET version_id = i.version_id, deployed_at = i.at
	FROM input i JOIN certificates c ON c.id = i.certificate_id
	WHERE t.certificate_id = i.certificate_id AND t.target_id = i.target_id AND i.version_id = ` + wanted + `
	RETURNING t.certificate_id, t.target_id, i.at
), served AS (
	SELECT c.id, max(s.at) AS at, min(v.not_after) AS expires_at,
		COALESCE('rolled back to ' || string_agg(DISTINCT t.rolled_back_to, ', ') FILTER (WHERE t.rolled_back_from = c.version_id), '') AS reason
	FROM (SELECT certificate_id, max(at) AS at, array_agg(target_id) AS target_ids FROM seen GROUP BY certificate_id) s
	JOIN certificates c ON c.id = s.certificate_id
	JOIN certificate_targets t ON t.certificate_id = c.id
	JOIN certificate_versions v ON v.id = ` + wanted + `
	GROUP BY c.id
	HAVING bool_and(t.target_id = ANY (s.target_ids) OR t.version_id = ` + wanted + `)
), cert AS (
	UPDATE certificates c SET status = 'Active', status_reason = s.reason, version = c.version + 1,
		last_deployment_at = s.at, updated_at = s.at, expires_at = s.expires_at
	FROM served s
	WHERE c.id = s.id AND c.status = ANY($5) AND ` + noOpenJob + `
	RETURNING c.id, c.version
), again AS (
	UPDATE certificates c SET status_reason = s.reason, last_deployment_at = s.at, updated_at = s.at, expires_at = s.expires_at
	FROM served s
	WHERE c.id = s.id AND c.status IN ('Active', 'Expiring', 'Expired')
)
` + insertEvents("cert", "id", 6)

var failedSQL = `WITH input AS (
	SELECT i.* FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $13::text[])
		AS i (certificate_id, version_id, reason, at, target_id)
	JOIN certificates c ON c.id = i.certificate_id
	WHERE i.version_id = c.version_id OR EXISTS (SELECT FROM certificate_targets t
		WHERE t.certificate_id = c.id AND t.target_id = i.target_id AND i.version_id = ` + wanted + `)
), cert AS (
	UPDATE certificates c SET status = 'Failed', status_reason = i.reason, version = c.version + 1, updated_at = i.at
	FROM input i
	WHERE c.id = i.certificate_id AND c.status = ANY($5) AND ` + noOpenJob + `
	RETURNING c.id, c.version
), still AS (
	UPDATE certificates c SET status_reason = i.reason, updated_at = i.at
	FROM input i
	WHERE c.id = i.certificate_id AND c.status IN ('Active', 'Expiring', 'Expired')
)
` + insertEvents("cert", "id", 6)

const rolledBackSQL = `UPDATE certificates c SET status_reason = i.reason, updated_at = i.at
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) AS i (certificate_id, version_id, reason, at)
WHERE c.id = i.certificate_id AND c.version_id = i.version_id AND c.status IN ('Pending', 'RenewalInProgress')
	AND ` + noOpenJob

// Completed notes which targets serve which versions. A certificate is Active once all of them serve what is wanted: the
// newest version, or the older one that somebody put in its place, until whose end the certificate then holds. What is
// heard of other versions changes nothing.
func (t Tx) Completed(ctx context.Context, deployed []issuance.Deployed) error {
	deployed = lastOf(deployed, func(d *issuance.Deployed) string { return d.CertificateID + "/" + d.TargetID })
	if err := t.lock(ctx, deployed); err != nil {
		return err
	}
	facts := lastOf(deployed, func(d *issuance.Deployed) string { return d.CertificateID })
	args := []any{
		column(deployed, func(d *issuance.Deployed) string { return d.CertificateID }),
		column(deployed, func(d *issuance.Deployed) string { return d.VersionID }),
		column(deployed, func(d *issuance.Deployed) string { return d.TargetID }),
		column(deployed, func(d *issuance.Deployed) time.Time { return d.At }),
		issuance.Before(issuance.Active),
	}
	return t.deploymentStatement(ctx, completedSQL, args, facts)
}

// Failed notes that the installation of a version was given up: if it is one that is wanted, its certificate is Failed,
// unless it is served everywhere: then only the reason is kept.
func (t Tx) Failed(ctx context.Context, deployed []issuance.Deployed) error {
	deployed = lastOf(deployed, func(d *issuance.Deployed) string { return d.CertificateID })
	if err := t.lock(ctx, deployed); err != nil {
		return err
	}
	// Failed may be reached from more states than these, but a certificate that is served everywhere stays Active.
	args := append(reasons(deployed), []string{string(issuance.Pending), string(issuance.RenewalInProgress)})
	return t.deploymentStatement(ctx, failedSQL, args, deployed, column(deployed, func(d *issuance.Deployed) string { return d.TargetID }))
}

// RolledBack notes why a certificate is not served yet.
func (t Tx) RolledBack(ctx context.Context, deployed []issuance.Deployed) error {
	deployed = lastOf(deployed, func(d *issuance.Deployed) string { return d.CertificateID })
	if _, err := t.tx.Exec(ctx, rolledBackSQL, reasons(deployed)...); err != nil {
		return fmt.Errorf("note %d deployments that were rolled back: %w", len(deployed), err)
	}
	return nil
}

func reasons(deployed []issuance.Deployed) []any {
	return []any{
		column(deployed, func(d *issuance.Deployed) string { return d.CertificateID }),
		column(deployed, func(d *issuance.Deployed) string { return d.VersionID }),
		column(deployed, func(d *issuance.Deployed) string { return d.Reason }),
		column(deployed, func(d *issuance.Deployed) time.Time { return d.At }),
	}
}

func (t Tx) deploymentStatement(ctx context.Context, sql string, args []any, facts []issuance.Deployed, more ...any) error {
	var told events
	for _, d := range facts {
		if err := told.add(d.CertificateID, d.Fact, 0); err != nil {
			return err
		}
	}
	eventArgs := told.args()
	if _, err := t.tx.Exec(ctx, sql, append(append(args, eventArgs...), more...)...); err != nil {
		return fmt.Errorf("note %d deployments: %w", len(facts), err)
	}
	return nil
}

func (t Tx) lock(ctx context.Context, deployed []issuance.Deployed) error {
	ids := column(deployed, func(d *issuance.Deployed) string { return d.CertificateID })
	if _, err := t.tx.Exec(ctx, lockSQL, ids); err != nil {
		return fmt.Errorf("lock %d certificates: %w", len(ids), err)
	}
	return nil
}

// lastOf keeps the last row of each key: an UPDATE must not meet a row twice.
func lastOf[T any](rows []T, key func(*T) string) []T {
	last := make(map[string]int, len(rows))
	for i := range rows {
		last[key(&rows[i])] = i
	}
	kept := make([]T, 0, len(last))
	for i := range rows {
		if last[key(&rows[i])] == i {
			kept = append(kept, rows[i])
		}
	}
	return kept
}

// TargetState is what an event tells of a target, as of a version of it.
type TargetState struct {
	issuance.Target
	Deleted bool
	Version int64
	At      time.Time
}

const targetStateSQL = `INSERT INTO target_agents (target_id, agent_id, enabled, deleted, version, updated_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::boolean[], $5::bigint[], $6::timestamptz[])
ON CONFLICT (target_id) DO UPDATE SET agent_id = EXCLUDED.agent_id, enabled = EXCLUDED.enabled,
	deleted = EXCLUDED.deleted, version = EXCLUDED.version, updated_at = EXCLUDED.updated_at
WHERE target_agents.version < EXCLUDED.version`

// Targets notes how targets are, unless something newer is known.
func (t Tx) Targets(ctx context.Context, states []TargetState) error {
	newest := map[string]TargetState{}
	for _, s := range states {
		if n, ok := newest[s.ID]; !ok || n.Version < s.Version {
			newest[s.ID] = s
		}
	}
	rows := make([]TargetState, 0, len(newest))
	for _, s := range states {
		if newest[s.ID].Version == s.Version {
			rows = append(rows, s)
			delete(newest, s.ID)
		}
	}
	_, err := t.tx.Exec(
		ctx, targetStateSQL,
		column(rows, func(s *TargetState) string { return s.ID }),
		column(rows, func(s *TargetState) string { return s.AgentID }),
		column(rows, func(s *TargetState) bool { return s.Enabled }),
		column(rows, func(s *TargetState) bool { return s.Deleted }),
		column(rows, func(s *TargetState) int64 { return s.Version }),
		column(rows, func(s *TargetState) time.Time { return s.At }),
	)
	if err != nil {
		return fmt.Errorf("note %d targets: %w", len(rows), err)
	}
	return nil
}
