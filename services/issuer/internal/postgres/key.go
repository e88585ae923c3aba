package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const activeKeySQL = `SELECT id, issuer_id, chain_pem, sealed_key, coalesce(token_key, ''), created_at FROM ca_keys WHERE issuer_id = $1 AND active`

// ActiveKey implements [ca.KeyStore].
func (s *Store) ActiveKey(ctx context.Context, issuerID string) (*ca.Key, error) {
	var k ca.Key
	err := s.pool.QueryRow(ctx, activeKeySQL, issuerID).Scan(&k.ID, &k.IssuerID, &k.ChainPEM, &k.Sealed, &k.TokenKey, &k.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // the interface says so
	}
	if err != nil {
		return nil, pg.Fault(err)
	}
	return &k, nil
}

const addKeySQL = `INSERT INTO ca_keys (id, issuer_id, chain_pem, sealed_key, created_at, token_key) VALUES ($1, $2, $3, $4, $5, NULLIF($6, ''))
ON CONFLICT (issuer_id) WHERE active DO NOTHING`

// AddKey implements [ca.KeyStore].
func (s *Store) AddKey(ctx context.Context, k ca.Key) (*ca.Key, error) {
	if _, err := s.pool.Exec(ctx, addKeySQL, addKeyArgs(k)...); err != nil {
		return nil, addKeyFault(k, err)
	}
	return s.ActiveKey(ctx, k.IssuerID)
}

func addKeyArgs(k ca.Key) []any {
	return []any{k.ID, k.IssuerID, k.ChainPEM, k.Sealed, k.CreatedAt, k.TokenKey}
}

// addKeyFault is a Conflict if the key is in a token and another issuer's.
func addKeyFault(k ca.Key, err error) error {
	if pg.IsUnique(err) && pg.Constraint(err) == "ca_keys_token" {
		return fault.New(fault.Conflict, "the key %s in the token is another issuer's; give each issuer a key of its own (key_label)", k.TokenKey)
	}
	return pg.Fault(fmt.Errorf("add the key of issuer %s: %w", k.IssuerID, err))
}
