package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/record"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

const issuerColumns = `i.id, i.name, i.type, i.config, i.enabled, i.ca_chain_pem, i.signs_crl, i.created_at, i.updated_at, i.revision, i.sealed_settings,
	i.max_concurrent, i.rate_limit, i.rate_window_seconds, i.authorities`

func scanIssuer(row pgx.CollectableRow) (registry.Issuer, error) {
	var i registry.Issuer
	var window int
	err := row.Scan(&i.ID, &i.Name, &i.Type, &i.Config, &i.Enabled, &i.CAChainPEM, &i.SignsCRL, &i.CreatedAt, &i.UpdatedAt, &i.Revision, &i.Sealed,
		&i.Limits.MaxConcurrent, &i.Limits.Rate, &window, &i.Authorities)
	i.Limits.Window = time.Duration(window) * time.Second
	return i, err
}

// issuers limits a list of issuers to a scope.
func (c *conditions) issuers(s authn.Scope) {
	if s.Issuers != nil {
		c.parts = append(c.parts, "i.id = ANY("+c.arg(s.Issuers)+")")
	}
}

// Issuers returns a page of the issuers within a scope, in the order of their creation.
func (s *Store) Issuers(ctx context.Context, scope authn.Scope, p Page) (List[registry.Issuer], error) {
	var c conditions
	c.issuers(scope)
	return listPage(ctx, s, listing[registry.Issuer]{
		columns: issuerColumns, from: "issuers i", conditions: c, sort: "i.created_at", id: "i.id", page: p, scan: scanIssuer,
		place: func(row *registry.Issuer) page.Cursor { return page.At(row.CreatedAt, row.ID) },
	})
}

func issuer(ctx context.Context, q querier, scope authn.Scope, id, lock string) (registry.Issuer, error) {
	c := conditions{args: []any{id}}
	c.issuers(scope)
	return one(ctx, q, row[registry.Issuer]{"issuer", id, scanIssuer}, `SELECT `+issuerColumns+` FROM issuers i WHERE i.id = $1`+c.and()+lock, c.args...)
}

// IssuerByID returns an issuer, NotFound if there is none within the scope.
func (s *Store) IssuerByID(ctx context.Context, scope authn.Scope, id string) (registry.Issuer, error) {
	return issuer(ctx, s.pool, scope, id, "")
}

// Configured implements [registry.Rows].
func (s *Store) Configured(ctx context.Context, ids []string) (map[string]registry.Issuer, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+issuerColumns+` FROM issuers i WHERE i.id = ANY($1)`, ids)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("look up issuers: %w", err))
	}
	list, err := pgx.CollectRows(rows, scanIssuer)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("look up issuers: %w", err))
	}
	found := make(map[string]registry.Issuer, len(list))
	for _, i := range list {
		found[i.ID] = i
	}
	return found, nil
}

var announceSQL = `WITH issuer AS (
	UPDATE issuers SET ca_chain_pem = $2, signs_crl = $3, config = $4::jsonb, version = version + 1, revision = revision + 1,
		updated_at = $5
	WHERE id = $1 AND revision = $13 AND (version = 0 OR ca_chain_pem <> $2 OR signs_crl <> $3 OR config <> $4::jsonb)
	RETURNING id, version
)
` + insertEvents("issuer", "id", 6)

// Announce notes what an issuer's connector says of itself and, if that is new, tells of it. An issuer that has been
// changed since it was read is left as it is: another replica was quicker, or somebody.
func (s *Store) Announce(ctx context.Context, i registry.Issuer, now time.Time) error {
	config, err := encodeConfig(&i)
	if err != nil {
		return err
	}
	var told events
	if err := told.add(i.ID, issuance.Fact{Event: i.Configured(), At: now, Origin: issuance.Origin{Actor: "issuer"}}, 0); err != nil {
		return err
	}
	eventArgs := told.args()
	if _, err := s.pool.Exec(ctx, announceSQL, append(append([]any{i.ID, i.CAChainPEM, i.SignsCRL, config, now}, eventArgs...), i.Revision)...); err != nil {
		return pg.Fault(fmt.Errorf("note how issuer %s is configured: %w", i.ID, err))
	}
	s.hooks.Told()
	return nil
}

func encodeConfig(i *registry.Issuer) (string, error) {
	if i.Config == nil {
		return "{}", nil
	}
	config, err := json.Marshal(i.Config)
	if err != nil {
		return "", fmt.Errorf("encode the configuration of %s: %w", i.ID, err)
	}
	return string(config), nil
}

func encodeAuthorities(i *registry.Issuer) (string, error) {
	if len(i.Authorities) == 0 {
		return "[]", nil
	}
	b, err := json.Marshal(i.Authorities)
	if err != nil {
		return "", fmt.Errorf("encode the CAs of %s: %w", i.ID, err)
	}
	return string(b), nil
}

// AddIssuer implements [registry.Store].
func (s *Store) AddIssuer(ctx context.Context, i registry.Issuer, key ca.Key, t registry.Told) error {
	config, err := encodeConfig(&i)
	if err != nil {
		return err
	}
	return s.transact(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO issuers (id, name, type, config, enabled, ca_chain_pem, signs_crl, version, revision, created_at, updated_at, sealed_settings,
			max_concurrent, rate_limit, rate_window_seconds) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`, i.ID, i.Name, i.Type, config, i.Enabled, i.CAChainPEM, i.SignsCRL,
			0, i.Revision, i.CreatedAt, i.UpdatedAt, i.Sealed, i.Limits.MaxConcurrent, i.Limits.Rate, int(i.Limits.Window/time.Second))
		if pg.IsUnique(err) {
			return fault.New(fault.Conflict, "there is an issuer %s already", i.ID)
		}
		if pg.IsForeignKey(err) {
			return fault.New(fault.Conflict, "the issuer above %s is gone", i.ID)
		}
		if err != nil {
			return fmt.Errorf("add issuer %s: %w", i.ID, err)
		}
		if key.ID != "" {
			if _, err := tx.Exec(ctx, insertKey, keyArgs(&key)...); err != nil {
				return keyFault(&key, err)
			}
		}
		return tellIssuer(ctx, tx, &i, t)
	})
}

// tellIssuer tells of a change. What relying parties are told is numbered apart.
func tellIssuer(ctx context.Context, tx pgx.Tx, i *registry.Issuer, t registry.Told) error {
	if t.Configured != nil {
		var version int64
		if err := tx.QueryRow(ctx, `UPDATE issuers SET version = version + 1 WHERE id = $1 RETURNING version`, i.ID).Scan(&version); err != nil {
			return fmt.Errorf("number what is told of issuer %s: %w", i.ID, err)
		}
		if err := tell(ctx, tx, version, *t.Configured); err != nil {
			return err
		}
	}
	return tell(ctx, tx, i.Revision, t.Changed)
}

// ChangeIssuer implements [registry.Store].
func (s *Store) ChangeIssuer(
	ctx context.Context, scope authn.Scope, id string, decide func(registry.Issuer) (registry.Issuer, *registry.Told, error),
) (i registry.Issuer, err error) {
	changed := false
	err = s.transact(ctx, func(tx pgx.Tx) error {
		changed = false
		// First, as whoever notes that a circuit has closed.
		if _, err := tx.Exec(ctx, `SELECT FROM issuer_standings WHERE issuer_id = $1 FOR UPDATE`, id); err != nil {
			return fmt.Errorf("hold the standing of %s: %w", id, err)
		}
		before, err := issuer(ctx, tx, scope, id, forChange)
		if err != nil {
			return err
		}
		var t *registry.Told
		if i, t, err = decide(before); err != nil || t == nil {
			return err
		}
		config, err := encodeConfig(&i)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE issuers SET name = $2, config = $3, enabled = $4, revision = $5, updated_at = $6, sealed_settings = $7,
			max_concurrent = $8, rate_limit = $9, rate_window_seconds = $10
			WHERE id = $1`, id, i.Name, config, i.Enabled, i.Revision, i.UpdatedAt, i.Sealed, i.Limits.MaxConcurrent, i.Limits.Rate, int(i.Limits.Window/time.Second))
		if err != nil {
			return fmt.Errorf("change issuer %s: %w", id, err)
		}
		// What was wrong may have been mended.
		if err := tryAgain(ctx, tx, id, i.UpdatedAt); err != nil {
			return err
		}
		changed = true
		return tellIssuer(ctx, tx, &i, *t)
	})
	if err == nil && changed {
		s.hooks.Due()
	}
	return i, err
}

// RemoveIssuer implements [registry.Store].
func (s *Store) RemoveIssuer(
	ctx context.Context, scope authn.Scope, id string, decide func(registry.Issuer, []record.Uses) (issuance.Fact, error),
) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		i, err := issuer(ctx, tx, scope, id, forRemoval)
		if err != nil {
			return err
		}
		by, err := uses(ctx, tx, id, certificatesOfIssuer, versionsOfIssuer, policiesOfIssuer, issuersBelow)
		if err != nil {
			return err
		}
		f, err := decide(i, by)
		if err != nil {
			return err
		}
		for _, sql := range []string{`DELETE FROM ca_keys WHERE issuer_id = $1`, `DELETE FROM issuers WHERE id = $1`} {
			if _, err := tx.Exec(ctx, sql, id); err != nil {
				return fmt.Errorf("remove issuer %s: %w", id, err)
			}
		}
		return tell(ctx, tx, i.Revision+1, f)
	})
}
