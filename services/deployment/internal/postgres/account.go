package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	lockAccount   = `SELECT jwt, revision FROM edge_account FOR UPDATE`
	insertAccount = `INSERT INTO edge_account (jwt, revision) VALUES ($1, 1) ON CONFLICT (singleton) DO NOTHING`
	updateAccount = `UPDATE edge_account SET jwt = $1, revision = revision + 1 RETURNING revision`
	readAccount   = `SELECT jwt, revision FROM edge_account`
	staleSites    = `SELECT id FROM sites WHERE account_revision < $1 AND status = 'Connected'
ORDER BY id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED`
	markSitesFresh = `UPDATE sites SET account_revision = $2 WHERE id = ANY($1)`
)

// Account is the newest JWT of account EDGE, and how many there were before it.
type Account struct {
	JWT      string
	Revision int64
}

// NoteAccount keeps an account JWT if newer says that it replaces the one that is
// kept, and reports whether it did.
func NoteAccount(ctx context.Context, tx pgx.Tx, jwt string, newer func(current string) bool) (bool, error) {
	tag, err := tx.Exec(ctx, insertAccount, jwt)
	if err != nil {
		return false, fmt.Errorf("keep account JWT: %w", err)
	}
	if tag.RowsAffected() > 0 {
		return true, nil
	}
	var current Account
	if err := tx.QueryRow(ctx, lockAccount).Scan(&current.JWT, &current.Revision); err != nil {
		return false, fmt.Errorf("read account JWT: %w", err)
	}
	if current.JWT == jwt || !newer(current.JWT) {
		return false, nil
	}
	if err := tx.QueryRow(ctx, updateAccount, jwt).Scan(&current.Revision); err != nil {
		return false, fmt.Errorf("keep account JWT: %w", err)
	}
	return true, nil
}

// ReadAccount reads the newest account JWT.
func ReadAccount(ctx context.Context, db Querier) (Account, error) {
	var a Account
	if err := db.QueryRow(ctx, readAccount).Scan(&a.JWT, &a.Revision); err != nil {
		return a, fmt.Errorf("read account JWT: %w", err)
	}
	return a, nil
}

// StaleSites claims connected sites that were not told of an account JWT.
func StaleSites(ctx context.Context, tx pgx.Tx, revision int64, limit int) ([]string, error) {
	ids, err := collect(ctx, tx, pgx.RowTo[string], staleSites, revision, limit)
	if err != nil {
		return nil, fmt.Errorf("find stale sites: %w", err)
	}
	return ids, nil
}

// MarkSitesFresh notes what sites are told.
func MarkSitesFresh(ctx context.Context, tx pgx.Tx, siteIDs []string, revision int64) error {
	if _, err := tx.Exec(ctx, markSitesFresh, siteIDs, revision); err != nil {
		return fmt.Errorf("mark sites fresh: %w", err)
	}
	return nil
}
