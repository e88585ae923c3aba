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
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

const keyColumns = `id, issuer_id, CASE WHEN place = '' THEN issuer_id ELSE place END, chain_pem, csr_pem, cross_pem, sealed_key,
	coalesce(token_key, ''), active, created_at, activated_at`

func scanKey(row pgx.CollectableRow) (ca.Key, error) {
	var k ca.Key
	var activated *time.Time
	err := row.Scan(&k.ID, &k.IssuerID, &k.Place, &k.ChainPEM, &k.CSRPEM, &k.CrossPEM, &k.Sealed, &k.TokenKey, &k.Active, &k.CreatedAt, &activated)
	k.ActivatedAt = orZero(activated)
	return k, err
}

// keyArgs are the values of a key's columns.
func keyArgs(k *ca.Key) []any {
	place := k.Place
	if place == k.IssuerID {
		place = ""
	}
	return []any{k.ID, k.IssuerID, place, k.ChainPEM, k.CSRPEM, k.CrossPEM, k.Sealed, k.Active, k.CreatedAt, orNull(k.ActivatedAt), k.TokenKey}
}

const insertKey = `INSERT INTO ca_keys (id, issuer_id, place, chain_pem, csr_pem, cross_pem, sealed_key, active, created_at, activated_at, token_key)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULLIF($11, ''))`

// keyFault is a Conflict if a key is in a token and another issuer's.
func keyFault(k *ca.Key, err error) error {
	if pg.IsUnique(err) && pg.Constraint(err) == "ca_keys_token" {
		return fault.New(fault.Conflict, "the key %s in the token is another issuer's; give each issuer a key of its own (key_label)", k.TokenKey)
	}
	return fmt.Errorf("add a CA key of %s: %w", k.IssuerID, err)
}

// ActiveKey implements [ca.KeyStore].
func (s *Store) ActiveKey(ctx context.Context, issuerID string) (*ca.Key, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+keyColumns+` FROM ca_keys WHERE issuer_id = $1 AND active`, issuerID)
	if err != nil {
		return nil, pg.Fault(err)
	}
	k, err := pgx.CollectExactlyOneRow(rows, scanKey)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // the interface says so
	}
	if err != nil {
		return nil, pg.Fault(err)
	}
	return &k, nil
}

// Keys implements [ca.KeyStore].
func (s *Store) Keys(ctx context.Context, issuerID string) ([]ca.Key, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+keyColumns+` FROM ca_keys WHERE issuer_id = $1 ORDER BY created_at, id`, issuerID)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read the CA keys of %s: %w", issuerID, err))
	}
	keys, err := pgx.CollectRows(rows, scanKey)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read the CA keys of %s: %w", issuerID, err))
	}
	return keys, nil
}

// Replicas that start at once agree on one key, whichever index the later ones run into.
const addKeySQL = insertKey + ` ON CONFLICT DO NOTHING`

// AddKey implements [ca.KeyStore].
func (s *Store) AddKey(ctx context.Context, k ca.Key) (*ca.Key, error) {
	if _, err := s.pool.Exec(ctx, addKeySQL, keyArgs(&k)...); err != nil {
		return nil, pg.Fault(err)
	}
	return s.ActiveKey(ctx, k.IssuerID)
}

const putKeySQL = insertKey + ` ON CONFLICT (id) DO UPDATE SET chain_pem = excluded.chain_pem, cross_pem = excluded.cross_pem`

// ChangeKeys implements [registry.Store].
func (s *Store) ChangeKeys(ctx context.Context, after registry.Issuer, c registry.KeyChange, t registry.Told) error {
	authorities, err := encodeAuthorities(&after)
	if err != nil {
		return err
	}
	return s.transact(ctx, func(tx pgx.Tx) error {
		before, err := issuer(ctx, tx, authn.Scope{}, after.ID, forChange)
		if err != nil {
			return err
		}
		if before.Revision != after.Revision-1 {
			return fault.New(fault.Conflict, "issuer %s changed meanwhile; look at it and try again", after.ID)
		}
		if err := changeKeys(ctx, tx, after.ID, c, after.UpdatedAt); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE issuers SET ca_chain_pem = $2, signs_crl = $3, authorities = $4, revision = $5, updated_at = $6
			WHERE id = $1`, after.ID, after.CAChainPEM, after.SignsCRL, authorities, after.Revision, after.UpdatedAt); err != nil {
			return fmt.Errorf("note the keys of issuer %s: %w", after.ID, err)
		}
		return tellIssuer(ctx, tx, &after, t)
	})
}

func changeKeys(ctx context.Context, tx pgx.Tx, issuerID string, c registry.KeyChange, now time.Time) error {
	type statement struct {
		sql  string
		args []any
	}
	var all []statement
	if c.Drop != "" {
		all = append(all, statement{`DELETE FROM ca_keys WHERE issuer_id = $1 AND id = $2 AND chain_pem = ''`, []any{issuerID, c.Drop}})
	}
	if c.Put != nil {
		k := *c.Put
		k.Active = false
		all = append(all, statement{putKeySQL, keyArgs(&k)})
	}
	if c.Activate != "" {
		all = append(all,
			statement{`UPDATE ca_keys SET active = false WHERE issuer_id = $1 AND active`, []any{issuerID}},
			statement{`UPDATE ca_keys SET active = true, activated_at = $3 WHERE issuer_id = $1 AND id = $2`, []any{issuerID, c.Activate, now}})
	}
	for _, s := range all {
		_, err := tx.Exec(ctx, s.sql, s.args...)
		if err != nil && c.Put != nil {
			err = keyFault(c.Put, err)
		}
		if err != nil {
			return fmt.Errorf("change the CA keys of %s: %w", issuerID, err)
		}
	}
	return nil
}

// What an issuer's first key issued bears no key's id.
const validByKeySQL = `SELECT v.ca_key_id, count(*) FROM certificate_versions v
WHERE v.issuer_id = $1 AND v.not_after > $2 GROUP BY v.ca_key_id`

// ValidByKey implements [registry.Store].
func (s *Store) ValidByKey(ctx context.Context, issuerID string, now time.Time) (map[string]int64, error) {
	rows, err := s.pool.Query(ctx, validByKeySQL, issuerID, now)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("count what the keys of %s issued: %w", issuerID, err))
	}
	counts := map[string]int64{}
	var keyID string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&keyID, &n}, func() error {
		counts[keyID] = n
		return nil
	})
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("count what the keys of %s issued: %w", issuerID, err))
	}
	return counts, nil
}

// IssuersBelow implements [registry.Store].
func (s *Store) IssuersBelow(ctx context.Context, issuerID string) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT id FROM issuers WHERE parent_issuer_id = $1 ORDER BY created_at, id`, issuerID)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read the issuers below %s: %w", issuerID, err))
	}
	below, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read the issuers below %s: %w", issuerID, err))
	}
	return below, nil
}
