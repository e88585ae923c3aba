package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const accountSQL = `SELECT issuer_id, directory_url, account_url, contact, sealed_key, next_sealed_key, created_at
FROM acme_accounts WHERE issuer_id = $1 AND directory_url = $2`

// Account implements [ca.AccountStore].
func (s *Store) Account(ctx context.Context, issuerID, directory string) (*ca.Account, error) {
	var a ca.Account
	err := s.pool.QueryRow(ctx, accountSQL, issuerID, directory).Scan(&a.IssuerID, &a.Directory, &a.URL, &a.Contact, &a.Sealed, &a.Next, &a.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // the interface says so
	}
	if err != nil {
		return nil, pg.Fault(err)
	}
	return &a, nil
}

const addAccountSQL = `INSERT INTO acme_accounts (issuer_id, directory_url, account_url, contact, sealed_key, created_at)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (issuer_id, directory_url) DO NOTHING`

// AddAccount implements [ca.AccountStore].
func (s *Store) AddAccount(ctx context.Context, a ca.Account) (*ca.Account, error) {
	if _, err := s.pool.Exec(ctx, addAccountSQL, a.IssuerID, a.Directory, a.URL, a.Contact, a.Sealed, a.CreatedAt); err != nil {
		return nil, pg.Fault(err)
	}
	return s.Account(ctx, a.IssuerID, a.Directory)
}

const addNextKeySQL = `UPDATE acme_accounts SET next_sealed_key = COALESCE(next_sealed_key, $4)
WHERE issuer_id = $1 AND directory_url = $2 AND sealed_key = $3`

// AddNextKey implements [ca.AccountStore].
func (s *Store) AddNextKey(ctx context.Context, a ca.Account, next []byte) (*ca.Account, error) {
	tag, err := s.pool.Exec(ctx, addNextKeySQL, a.IssuerID, a.Directory, a.Sealed, next)
	if err != nil {
		return nil, pg.Fault(err)
	}
	if tag.RowsAffected() == 0 {
		return nil, fault.New(fault.Conflict, "the account key of %s has just been replaced", a.IssuerID)
	}
	return s.Account(ctx, a.IssuerID, a.Directory)
}

const adoptNextKeySQL = `UPDATE acme_accounts SET sealed_key = next_sealed_key, next_sealed_key = NULL
WHERE issuer_id = $1 AND directory_url = $2 AND next_sealed_key = $3`

// AdoptNextKey implements [ca.AccountStore].
func (s *Store) AdoptNextKey(ctx context.Context, issuerID, directory string, next []byte) error {
	_, err := s.pool.Exec(ctx, adoptNextKeySQL, issuerID, directory, next)
	return pg.Fault(err)
}

const noteAccountSQL = `UPDATE acme_accounts SET account_url = $3, contact = $4 WHERE issuer_id = $1 AND directory_url = $2`

// NoteAccount implements [ca.AccountStore].
func (s *Store) NoteAccount(ctx context.Context, a ca.Account) error {
	_, err := s.pool.Exec(ctx, noteAccountSQL, a.IssuerID, a.Directory, a.URL, a.Contact)
	return pg.Fault(err)
}
