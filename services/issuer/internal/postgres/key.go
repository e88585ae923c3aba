package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

const activeKeySQL = `SELECT id, issuer_id, chain_pem, sealed_key, created_at FROM ca_keys WHERE issuer_id = $1 AND active`

// ActiveKey implements [ca.KeyStore].
func (s *Store) ActiveKey(ctx context.Context, issuerID string) (*ca.Key, error) {
	var k ca.Key
	err := s.pool.QueryRow(ctx, activeKeySQL, issuerID).Scan(&k.ID, &k.IssuerID, &k.ChainPEM, &k.Sealed, &k.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // the interface says so
	}
	if err != nil {
		return nil, pg.Fault(err)
	}
	return &k, nil
}

const addKeySQL = `INSERT INTO ca_keys (id, issuer_id, chain_pem, sealed_key, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (issuer_id) WHERE active DO NOTHING`

// AddKey implements [ca.KeyStore].
func (s *Store) AddKey(ctx context.Context, k ca.Key) (*ca.Key, error) {
	if _, err := s.pool.Exec(ctx, addKeySQL, k.ID, k.IssuerID, k.ChainPEM, k.Sealed, k.CreatedAt); err != nil {
		return nil, pg.Fault(err)
	}
	return s.ActiveKey(ctx, k.IssuerID)
}
