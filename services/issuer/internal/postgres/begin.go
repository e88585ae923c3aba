package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

var beginSQL = `WITH cert AS (
	UPDATE certificates SET status = $3, status_reason = $4, version = version + 1, updated_at = $5
	WHERE id = $1 AND status = $2 AND ($23::bigint = 0 OR version = $23)
	RETURNING id, version
), job AS (
	INSERT INTO jobs (id, type, certificate_id, status, attempts, max_attempts, csr_pem, last_error, next_action_at,
		requested_by, correlation_id, trace_parent, created_at, renewal_policy_id)
	SELECT $6, $7, cert.id, $8, $9, $10, $11, $12, $13, $14, $15, $16, $5, $24 FROM cert
), event AS (
	` + insertEvents("cert", "id", 17) + `
)
SELECT version FROM cert`

// Begin implements [issuance.Store].
func (s *Store) Begin(ctx context.Context, seen issuance.CertificateStatus, start issuance.Start, at *issuance.Change) error {
	if at == nil && len(start.Breaches) == 0 {
		// A single statement needs no transaction around it.
		if err := begin(ctx, s.pool, seen, start); err != nil {
			return pg.Fault(err)
		}
		s.begun(start, at)
		return nil
	}
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if err := begin(ctx, tx, seen, start); err != nil {
			return err
		}
		if err := putOnRecord(ctx, tx, start.Breaches); err != nil || at == nil {
			return err
		}
		_, err := apply(ctx, tx, []issuance.Change{*at})
		return err
	})
	if err != nil {
		return err
	}
	s.begun(start, at)
	return nil
}

// begun has the events published, and a worker woken unless the job has ended already.
func (s *Store) begun(start issuance.Start, at *issuance.Change) {
	s.hooks.Told()
	switch {
	case at != nil:
		s.hooks.Look()
	case !start.Job.NextActionAt.IsZero():
		s.hooks.Due()
	}
}

func begin(ctx context.Context, q querier, seen issuance.CertificateStatus, start issuance.Start) error {
	j := &start.Job
	var told events
	if err := told.add(j.CertificateID, start.Fact, 0); err != nil {
		return err
	}
	eventArgs, err := told.args()
	if err != nil {
		return err
	}
	var version int64
	err = q.QueryRow(ctx, beginSQL, append([]any{
		j.CertificateID, string(seen), string(start.Status), start.Reason, j.CreatedAt,
		j.ID, string(j.Type), string(j.Status), j.Attempts, j.MaxAttempts, j.CSRPEM, j.LastError, orNull(j.NextActionAt),
		j.Origin.Actor, j.Origin.CorrelationID, j.Origin.TraceParent,
	}, append(eventArgs, start.Seen, j.PolicyID)...)...).Scan(&version)
	switch {
	case errors.Is(err, pgx.ErrNoRows), pg.IsUnique(err) && pg.Constraint(err) == "jobs_open":
		return fault.New(fault.Conflict, "certificate %s changed meanwhile: another renewal was quicker, or its record was changed; look at it again", j.CertificateID)
	case err != nil:
		return fmt.Errorf("begin to renew %s: %w", j.CertificateID, err)
	default:
		return nil
	}
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
		return archive(ctx, tx, scope, id, f)
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
	eventArgs, err := told.args()
	if err != nil {
		return err
	}
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
