package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	retireAgent = `UPDATE agents SET status = 'Retired', retired_at = $2, revoke_at = $2, revision = revision + 1
WHERE id = $1 AND status <> 'Retired'`
	claimRevocations = `WITH due AS (
	SELECT id FROM agents WHERE revoke_at <= $1 ORDER BY revoke_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE agents a SET revoke_at = $2, revoke_attempts = a.revoke_attempts + 1
FROM due WHERE a.id = due.id
RETURNING a.id, a.site_id, a.public_key, a.revoke_attempts`
	postponeRevocations = `UPDATE agents SET revoke_at = $2 WHERE id = ANY($1) AND revoke_at IS NOT NULL`
	finishRevocations   = `WITH done AS (
	SELECT id FROM agents WHERE id = ANY($1) AND revoke_at IS NOT NULL ORDER BY id FOR NO KEY UPDATE
)
UPDATE agents a SET revoke_at = NULL, revoked_at = $2, revision = a.revision + 1
FROM done WHERE a.id = done.id
RETURNING a.id, a.site_id, a.revision`
)

// RetireAgent ends an agent's identity for this service and makes the revocation of
// its key due. The caller holds the agent's row.
func RetireAgent(ctx context.Context, tx pgx.Tx, agentID string, now time.Time) error {
	if _, err := tx.Exec(ctx, retireAgent, agentID, now); err != nil {
		return fmt.Errorf("retire agent %s: %w", agentID, err)
	}
	return nil
}

// Revocation is a retired agent whose key is still to be revoked.
type Revocation struct {
	AgentID   string
	SiteID    string
	PublicKey string
	Attempts  int
}

// ClaimRevocations takes revocations that are due, and leaves them to others again
// after the lease.
func ClaimRevocations(ctx context.Context, db Querier, now time.Time, lease time.Duration, limit int) ([]Revocation, error) {
	due, err := collect(ctx, db, pgx.RowToStructByPos[Revocation], claimRevocations, now, now.Add(lease), limit)
	if err != nil {
		return nil, fmt.Errorf("claim revocations: %w", err)
	}
	return due, nil
}

// PostponeRevocations makes revocations that could not be had due at a time.
func PostponeRevocations(ctx context.Context, db Querier, agentIDs []string, until time.Time) error {
	if _, err := db.Exec(ctx, postponeRevocations, agentIDs, until); err != nil {
		return fmt.Errorf("postpone revocations: %w", err)
	}
	return nil
}

// FinishRevocations notes that keys are revoked, and returns the agents of whom that
// was not known.
func FinishRevocations(ctx context.Context, tx pgx.Tx, agentIDs []string, now time.Time) ([]Turned, error) {
	done, err := collect(ctx, tx, pgx.RowToStructByPos[Turned], finishRevocations, agentIDs, now)
	if err != nil {
		return nil, fmt.Errorf("finish revocations: %w", err)
	}
	return done, nil
}

// NextRevocation is when the next revocation, of an agent or of a former leaf, is due.
func NextRevocation(ctx context.Context, db Querier) (time.Time, error) {
	return next(ctx, db, "a revocation", `SELECT least(
	(SELECT min(revoke_at) FROM agents WHERE revoke_at IS NOT NULL),
	(SELECT min(revoke_at) FROM replaced_leaves WHERE revoke_at IS NOT NULL))`)
}

const targetsOfAgent = `SELECT id, count(*) OVER () FROM targets WHERE agent_id = $1 ORDER BY id LIMIT $2`

// TargetsOf lists some of the targets of an agent, and counts them all.
func TargetsOf(ctx context.Context, db Querier, agentID string, limit int) ([]string, int, error) {
	return uses(ctx, db, targetsOfAgent, agentID, limit)
}

// uses reads a list of what uses something, of which each row has the number of all.
func uses(ctx context.Context, db Querier, sql, of string, limit int) (ids []string, total int, err error) {
	rows, err := db.Query(ctx, sql, of, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("find what uses %s: %w", of, err)
	}
	var id string
	_, err = pgx.ForEachRow(rows, []any{&id, &total}, func() error {
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("find what uses %s: %w", of, err)
	}
	return ids, total, nil
}
