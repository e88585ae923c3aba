package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

const (
	importCertificateSQL = `INSERT INTO certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id,
	renewal_policy_id, certificate_profile_id, tags, status, version, version_id, serial_number, fingerprint_sha256, expires_at,
	created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb, $12, $13, $14, $15, $16, $17, $18, $18)`
	importVersionSQL = `INSERT INTO certificate_versions (id, certificate_id, imported, issuer_name, serial_number, fingerprint_sha256,
	spki_sha256, not_before, not_after, pem_chain, csr_pem, key_algorithm, key_size, created_at)
VALUES ($1, $2, true, $3, $4, $5, $6, $7, $8, $9, '', $10, $11, $12)
ON CONFLICT (fingerprint_sha256) DO NOTHING`
)

// errThere ends the transaction of an import whose version is here already.
var errThere = errors.New("the version is here already")

// Import implements [issuance.Store].
func (s *Store) Import(ctx context.Context, im issuance.Import) (bool, error) {
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error { return takeIn(ctx, tx, &im) })
	switch {
	case errors.Is(err, errThere):
		return false, nil
	case err != nil:
		return false, err
	}
	s.hooks.Told()
	s.hooks.Look()
	return true, nil
}

func takeIn(ctx context.Context, tx pgx.Tx, im *issuance.Import) error {
	c, v := &im.Certificate, &im.Version
	tags, err := encodeTags(c.Tags)
	if err != nil {
		return err
	}
	if c.ProfileID != "" {
		kept, err := tx.Exec(ctx, keepProfileSQL, c.ProfileID)
		switch {
		case err != nil:
			return fmt.Errorf("look for profile %s: %w", c.ProfileID, err)
		case kept.RowsAffected() == 0:
			return fault.InvalidFields(fault.Field{Name: "certificate_profile_id", Reason: "unknown profile " + c.ProfileID})
		}
	}
	_, err = tx.Exec(ctx, importCertificateSQL, c.ID, c.Name, c.CommonName, c.SANs, c.Environment, c.OwnerID, c.TeamID, c.IssuerID,
		c.RenewalPolicyID, c.ProfileID, tags, string(c.Status), c.Revision, c.VersionID, c.SerialNumber, c.Fingerprint, c.ExpiresAt, c.CreatedAt)
	if err != nil {
		return unknownReference(err, &issuance.Revised{Certificate: *c})
	}
	stored, err := tx.Exec(ctx, importVersionSQL, v.ID, v.CertificateID, v.IssuerName, v.SerialNumber, v.Fingerprint, v.SPKI, v.NotBefore,
		v.NotAfter, v.PEMChain, v.KeyAlgorithm, v.KeySize, v.CreatedAt)
	switch {
	case err != nil:
		return fmt.Errorf("import version %s: %w", v.ID, err)
	case stored.RowsAffected() == 0:
		return errThere
	}
	if im.Key != nil {
		if err := keepKeys(ctx, tx, []issuance.StoredKey{*im.Key}); err != nil {
			return err
		}
	}
	return tell(ctx, tx, c.Revision, im.Fact)
}

// CheckReferences implements [issuance.Store].
func (s *Store) CheckReferences(ctx context.Context, c *issuance.Certificate) error {
	bad, _, err := s.unknown(ctx, c)
	if err != nil || len(bad) == 0 {
		return err
	}
	return fault.InvalidFields(bad...)
}

// ByFingerprint implements [issuance.Store].
func (s *Store) ByFingerprint(ctx context.Context, scope authn.Scope, fingerprint string) (*issuance.Certificate, error) {
	var id string
	err := s.pool.QueryRow(ctx, `SELECT certificate_id FROM certificate_versions WHERE fingerprint_sha256 = $1`, fingerprint).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // the interface says so
	}
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("look for version with fingerprint %s: %w", fingerprint, err))
	}
	c, err := s.Certificate(ctx, scope, id)
	if fault.CodeOf(err) == fault.NotFound {
		return &issuance.Certificate{}, nil
	}
	return &c, err
}
