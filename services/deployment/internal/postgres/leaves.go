package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
)

// LockSite holds a site's row. It is NotFound if there is none.
func LockSite(ctx context.Context, tx pgx.Tx, id string) error {
	err := tx.QueryRow(ctx, `SELECT id FROM sites WHERE id = $1 FOR UPDATE`, id).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(fault.NotFound, "there is no site %s", id)
	}
	if err != nil {
		return fmt.Errorf("lock site %s: %w", id, err)
	}
	return nil
}

// VoidTokens forgets the tokens for a site's leaf that nobody has used.
func VoidTokens(ctx context.Context, tx pgx.Tx, siteID string) error {
	_, err := tx.Exec(ctx, `DELETE FROM enrolment_tokens WHERE site_id = $1 AND kind = 'site' AND used_at IS NULL`, siteID)
	if err != nil {
		return fmt.Errorf("void the tokens of %s: %w", siteID, err)
	}
	return nil
}

const (
	replaceLeaf = `INSERT INTO replaced_leaves (public_key, site_id, revoke_at) VALUES ($1, $2, $3)
ON CONFLICT (public_key) DO UPDATE SET revoke_at = excluded.revoke_at, revoke_attempts = 0, revoked_at = NULL`
	wasReplaced = `SELECT EXISTS (SELECT FROM replaced_leaves WHERE public_key = $1)`
	claimLeaves = `WITH due AS (
	SELECT public_key FROM replaced_leaves WHERE revoke_at <= $1 ORDER BY revoke_at LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE replaced_leaves l SET revoke_at = $2, revoke_attempts = l.revoke_attempts + 1
FROM due WHERE l.public_key = due.public_key
RETURNING l.public_key, l.revoke_attempts`
	postponeLeaves = `UPDATE replaced_leaves SET revoke_at = $2 WHERE public_key = ANY($1) AND revoke_at IS NOT NULL`
	finishLeaves   = `UPDATE replaced_leaves SET revoke_at = NULL, revoked_at = $2 WHERE public_key = ANY($1) AND revoke_at IS NOT NULL`
)

// ReplaceLeaf makes the revocation of the key of a site's former leaf due.
func ReplaceLeaf(ctx context.Context, tx pgx.Tx, siteID, publicKey string, now time.Time) error {
	if _, err := tx.Exec(ctx, replaceLeaf, publicKey, siteID, now); err != nil {
		return fmt.Errorf("revoke the former leaf of %s: %w", siteID, err)
	}
	return nil
}

// WasReplaced reports whether a key is that of a leaf in whose place another one came.
func WasReplaced(ctx context.Context, db Querier, publicKey string) (bool, error) {
	var was bool
	if err := db.QueryRow(ctx, wasReplaced, publicKey).Scan(&was); err != nil {
		return false, fmt.Errorf("look for a replaced key: %w", err)
	}
	return was, nil
}

// ReplacedLeaf is the key of a former leaf that is still to be revoked.
type ReplacedLeaf struct {
	PublicKey string
	Attempts  int
}

// ClaimReplacedLeaves takes those that are due, and leaves them to others again after
// the lease.
func ClaimReplacedLeaves(ctx context.Context, db Querier, now time.Time, lease time.Duration, limit int) ([]ReplacedLeaf, error) {
	due, err := collect(ctx, db, pgx.RowToStructByPos[ReplacedLeaf], claimLeaves, now, now.Add(lease), limit)
	if err != nil {
		return nil, fmt.Errorf("claim former leaves: %w", err)
	}
	return due, nil
}

// PostponeReplacedLeaves makes revocations that could not be had due at a time.
func PostponeReplacedLeaves(ctx context.Context, db Querier, publicKeys []string, until time.Time) error {
	if _, err := db.Exec(ctx, postponeLeaves, publicKeys, until); err != nil {
		return fmt.Errorf("postpone revocations of former leaves: %w", err)
	}
	return nil
}

// FinishReplacedLeaves notes that keys are revoked.
func FinishReplacedLeaves(ctx context.Context, tx pgx.Tx, publicKeys []string, now time.Time) error {
	if _, err := tx.Exec(ctx, finishLeaves, publicKeys, now); err != nil {
		return fmt.Errorf("finish revocations of former leaves: %w", err)
	}
	return nil
}
