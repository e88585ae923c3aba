package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

var beginSQL = `WITH input AS (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
		$9::int[], $10::int[], $11::text[], $12::text[], $13::timestamptz[], $14::text[], $15::text[], $16::text[],
		$24::bigint[], $25::text[], $26::text[], $27::int[], ` + versionParameters(28) + `, $40::text[])
	AS i (certificate_id, seen, status, reason, at, job_id, type, job_status,
		attempts, max_attempts, csr_pem, last_error, next_action_at, requested_by, correlation_id, trace_parent, revision, policy, agent_id, told,
		` + versionNames + `, authority_key_id)
), cert AS (
	UPDATE certificates c SET status = i.status, status_reason = i.reason, version = c.version + i.told, updated_at = i.at,
		version_id = COALESCE(NULLIF(i.version_id, ''), c.version_id),
		serial_number = CASE WHEN i.version_id <> '' THEN i.serial_number ELSE c.serial_number END,
		fingerprint_sha256 = CASE WHEN i.version_id <> '' THEN i.fingerprint_sha256 ELSE c.fingerprint_sha256 END,
		expires_at = CASE WHEN i.version_id <> '' THEN i.not_after ELSE c.expires_at END,
		last_renewal_at = CASE WHEN i.version_id <> '' AND i.type = 'Renewal' THEN i.at ELSE c.last_renewal_at END
	FROM input i
	WHERE c.id = i.certificate_id AND c.status = i.seen AND (i.revision = 0 OR c.version = i.revision)
	RETURNING c.id, c.version
), job AS (
	INSERT INTO jobs (id, type, certificate_id, status, attempts, max_attempts, csr_pem, last_error, next_action_at,
		requested_by, correlation_id, trace_parent, created_at, renewal_policy_id, agent_id, version_id, started_at, completed_at)
	SELECT i.job_id, i.type, cert.id, i.job_status, i.attempts, i.max_attempts, i.csr_pem, i.last_error, i.next_action_at,
		i.requested_by, i.correlation_id, i.trace_parent, i.at, i.policy, i.agent_id, i.version_id,
		CASE WHEN i.attempts > 0 THEN i.at END, CASE WHEN i.job_status IN ('Completed', 'Failed') THEN i.at END
	FROM input i JOIN cert ON cert.id = i.certificate_id
), made AS (
	` + insertVersions("cert.id", "input i JOIN cert ON cert.id = i.certificate_id") + `
), event AS (
	` + insertEvents("cert", "id", 17) + `
)
SELECT id FROM cert`

// Begin implements [issuance.Store].
func (s *Store) Begin(ctx context.Context, start issuance.Start) error {
	if len(start.Breaches) == 0 {
		// A single statement needs no transaction around it.
		if err := beginOne(ctx, s.pool, start); err != nil {
			return pg.Fault(err)
		}
	} else if err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if err := beginOne(ctx, tx, start); err != nil {
			return err
		}
		return putOnRecord(ctx, tx, start.Breaches)
	}); err != nil {
		return err
	}
	s.hooks.Told()
	s.begun([]issuance.Start{start})
	return nil
}

// begun wakes who has to see to jobs that have begun: those who look when certificates are to be renewed after jobs that
// are over, a worker after others.
func (s *Store) begun(starts []issuance.Start) {
	over := func(s issuance.Start) bool { return s.Job.Status.Final() }
	due := func(s issuance.Start) bool { return !s.Job.NextActionAt.IsZero() }
	if slices.ContainsFunc(starts, over) {
		s.hooks.Look()
	}
	if slices.ContainsFunc(starts, due) {
		s.hooks.Due()
	}
}

func beginOne(ctx context.Context, q querier, start issuance.Start) error {
	begun, err := begin(ctx, q, []issuance.Start{start})
	if err == nil && !begun[start.Job.CertificateID] || pg.IsUnique(err) && pg.Constraint(err) == "jobs_open" {
		return fault.New(fault.Conflict, "certificate %s changed meanwhile: another renewal was quicker, or its record was changed; look at it again", start.Job.CertificateID)
	}
	return err
}

// begin stores renewals of certificates that are still in the state in which they were seen, and returns the ids of those.
func begin(ctx context.Context, q querier, starts []issuance.Start) (map[string]bool, error) {
	type row = issuance.Start
	text := func(field func(*row) string) []string { return column(starts, field) }
	var told events
	for i := range starts {
		if err := told.tell(starts[i].Job.CertificateID, starts[i].Facts); err != nil {
			return nil, err
		}
	}
	eventArgs := told.args()
	args := append(append([]any{
		text(func(r *row) string { return r.Job.CertificateID }),
		text(func(r *row) string { return string(r.Seen) }),
		text(func(r *row) string { return string(r.Status) }),
		text(func(r *row) string { return r.Reason }),
		column(starts, func(r *row) time.Time { return r.Job.CreatedAt }),
		text(func(r *row) string { return r.Job.ID }),
		text(func(r *row) string { return string(r.Job.Type) }),
		text(func(r *row) string { return string(r.Job.Status) }),
		column(starts, func(r *row) int { return r.Job.Attempts }),
		column(starts, func(r *row) int { return r.Job.MaxAttempts }),
		text(func(r *row) string { return r.Job.CSRPEM }),
		text(func(r *row) string { return r.Job.LastError }),
		column(starts, func(r *row) *time.Time { return orNull(r.Job.NextActionAt) }),
		text(func(r *row) string { return r.Job.Origin.Actor }),
		text(func(r *row) string { return r.Job.Origin.CorrelationID }),
		text(func(r *row) string { return r.Job.Origin.TraceParent }),
	}, eventArgs...), column(starts, func(r *row) int64 { return r.Revision }),
		text(func(r *row) string { return r.Job.PolicyID }),
		text(func(r *row) string { return r.Job.AgentID }),
		column(starts, func(r *row) int { return len(r.Facts) }))
	versions := column(starts, func(r *row) *issuance.Version { return r.Version })
	rows, err := q.Query(ctx, beginSQL, append(append(args, versionArgs(versions)...), authorityKeyIDs(versions))...)
	if err != nil {
		return nil, fmt.Errorf("begin %d renewals: %w", len(starts), err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("begin %d renewals: %w", len(starts), err)
	}
	begun := make(map[string]bool, len(ids))
	for _, id := range ids {
		begun[id] = true
	}
	return begun, nil
}

const cancelOpenSQL = `UPDATE jobs SET status = 'Cancelled', last_error = 'the certificate was archived', next_action_at = NULL,
	lease_until = NULL, lease_token = lease_token + 1, completed_at = $2
WHERE certificate_id = $1 AND status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')`

// Archive implements [issuance.Store].
func (s *Store) Archive(ctx context.Context, scope authn.Scope, id string, f issuance.Fact) error {
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, cancelOpenSQL, id, f.At); err != nil {
			return fmt.Errorf("cancel the job of %s: %w", id, err)
		}
		if err := archive(ctx, tx, scope, id, f); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, archiveKeysSQL, id, f.At); err != nil {
			return fmt.Errorf("delete the keys of %s: %w", id, err)
		}
		// One that began between the two; from here on none can. Its row is locked last for once: should that lead to a
		// deadlock, all of it is done again.
		if _, err := tx.Exec(ctx, cancelOpenSQL, id, f.At); err != nil {
			return fmt.Errorf("cancel the new job of %s: %w", id, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.hooks.Told()
	return nil
}

func archive(ctx context.Context, tx pgx.Tx, scope authn.Scope, id string, f issuance.Fact) error {
	var told events
	if err := told.add(id, f, 0); err != nil {
		return err
	}
	eventArgs := told.args()
	c := conditions{args: append([]any{id, f.At}, eventArgs...)}
	c.scope(scope)
	sql := `WITH seen AS (
		SELECT c.id, c.status FROM certificates c WHERE c.id = $1` + c.and() + ` FOR UPDATE
	), cert AS (
		UPDATE certificates c SET status = 'Archived', status_reason = '', version = c.version + 1, updated_at = $2
		FROM seen WHERE c.id = seen.id AND seen.status <> 'Archived'
		RETURNING c.id, c.version
	), event AS (
		` + insertEvents("cert", "id", 3) + `
	)
	SELECT count(*) FROM seen`
	var seen int
	if err := tx.QueryRow(ctx, sql, c.args...).Scan(&seen); err != nil {
		return fmt.Errorf("archive %s: %w", id, err)
	}
	if seen == 0 {
		return notFound(id)
	}
	return nil
}

func notFound(certificateID string) error {
	return fault.New(fault.NotFound, "there is no certificate %s", certificateID)
}

const learnSQL = `INSERT INTO target_agents (target_id, agent_id, enabled, version, updated_at) VALUES ($1, $2, $3, 0, $4)
ON CONFLICT (target_id) DO UPDATE SET agent_id = EXCLUDED.agent_id, enabled = EXCLUDED.enabled, deleted = false
WHERE target_agents.deleted`

// LearnTarget implements [issuance.Store].
func (s *Store) LearnTarget(ctx context.Context, t issuance.Target, now time.Time) error {
	if _, err := s.pool.Exec(ctx, learnSQL, t.ID, t.AgentID, t.Enabled, now); err != nil {
		return pg.Fault(fmt.Errorf("note target %s: %w", t.ID, err))
	}
	return nil
}

const targetsSQL = `SELECT t.id, COALESCE(a.agent_id, ''), COALESCE(a.enabled, false)
FROM unnest($1::text[]) WITH ORDINALITY AS t (id, position)
LEFT JOIN target_agents a ON a.target_id = t.id AND NOT a.deleted
ORDER BY t.position`

// Targets implements [issuance.Store].
func (s *Store) Targets(ctx context.Context, ids []string) ([]issuance.Target, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := s.pool.Query(ctx, targetsSQL, ids)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("look up targets: %w", err))
	}
	targets, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t issuance.Target, err error) {
		err = row.Scan(&t.ID, &t.AgentID, &t.Enabled)
		return t, err
	})
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("look up targets: %w", err))
	}
	return targets, nil
}
