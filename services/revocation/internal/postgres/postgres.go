// Package postgres holds what the revocation service knows: issuers, the serial numbers
// that they issued, and the newest revocation list of each.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/pg"
)

// Issuer is what relying parties need to know of one.
type Issuer struct {
	ID         string
	Name       string
	Type       string
	CAChainPEM string
	SignsCRL   bool
	// Authorities are the CAs of its keys, if there has been more than one.
	Authorities []Authority
	// Version orders what is heard of an issuer; older news changes nothing.
	Version int64
}

// Authority is a CA by one of an issuer's keys: who issued a certificate, and answers for it.
type Authority struct {
	// ID is what relying parties ask by: the issuer's own for its first key, the key's for any other.
	ID, IssuerID string
	// KeyID is the key that signs for it, empty for the only one of its issuer.
	KeyID      string
	CAChainPEM string
	SignsCRL   bool
}

// First tells that it is by its issuer's first key.
func (a *Authority) First() bool { return a.ID == a.IssuerID }

// Serial is a certificate that an issuer has issued.
type Serial struct {
	IssuerID, SerialNumber, CertificateID, VersionID string
	// AuthorityKeyID is the certificate's, in lower-case hex; empty if it is not known, as of old ones of a first key.
	AuthorityKeyID string
	NotAfter       time.Time
}

// CRL is a signed revocation list of an authority.
type CRL struct {
	AuthorityID            string
	Number                 int64
	DER                    []byte
	ThisUpdate, NextUpdate time.Time
}

const saveIssuer = `
INSERT INTO issuers (id, name, type, ca_chain_pem, signs_crl, version) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, type = excluded.type, ca_chain_pem = excluded.ca_chain_pem, signs_crl = excluded.signs_crl,
    version = excluded.version
WHERE issuers.version < excluded.version`

// SaveIssuer keeps the newest of what is known of an issuer, within tx.
func SaveIssuer(ctx context.Context, tx pgx.Tx, i Issuer) error {
	tag, err := tx.Exec(ctx, saveIssuer, i.ID, i.Name, i.Type, i.CAChainPEM, i.SignsCRL, i.Version)
	if err != nil {
		return fmt.Errorf("save issuer %s: %w", i.ID, err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, `DELETE FROM authorities WHERE issuer_id = $1`, i.ID); err != nil {
		return fmt.Errorf("save the CAs of issuer %s: %w", i.ID, err)
	}
	for _, a := range i.Authorities {
		_, err := tx.Exec(ctx, `INSERT INTO authorities (id, issuer_id, key_id, ca_chain_pem, signs_crl) VALUES ($1, $2, $3, $4, $5)`,
			a.ID, i.ID, a.KeyID, a.CAChainPEM, a.SignsCRL)
		if err != nil {
			return fmt.Errorf("save CA %s of issuer %s: %w", a.ID, i.ID, err)
		}
	}
	return nil
}

const saveSerials = `
INSERT INTO issued_serials (issuer_id, serial_number, certificate_id, version_id, authority_key_id, not_after)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) AS n (issuer_id, serial_number)
ORDER BY n.issuer_id, n.serial_number
ON CONFLICT DO NOTHING`

// SaveSerials keeps serial numbers, within tx, those that are known as they are.
func SaveSerials(ctx context.Context, tx pgx.Tx, serials []Serial) error {
	if len(serials) == 0 {
		return nil
	}
	var text [5][]string
	var notAfter []time.Time
	for _, s := range serials {
		for i, v := range []string{s.IssuerID, s.SerialNumber, s.CertificateID, s.VersionID, s.AuthorityKeyID} {
			text[i] = append(text[i], v)
		}
		notAfter = append(notAfter, s.NotAfter)
	}
	if _, err := tx.Exec(ctx, saveSerials, text[0], text[1], text[2], text[3], text[4], notAfter); err != nil {
		return fmt.Errorf("save %d serial numbers: %w", len(serials), err)
	}
	return nil
}

// Store reads, and keeps lists.
type Store struct {
	Pool *pgxpool.Pool
}

// An issuer that has had one key only is its own authority.
const getAuthority = `SELECT id, issuer_id, key_id, ca_chain_pem, signs_crl FROM authorities WHERE id = $1
UNION ALL
SELECT id, id, '', ca_chain_pem, signs_crl FROM issuers WHERE id = $1
LIMIT 1`

// Authority returns an authority. found is false if there is none.
func (s Store) Authority(ctx context.Context, id string) (a Authority, found bool, err error) {
	err = s.Pool.QueryRow(ctx, getAuthority, id).Scan(&a.ID, &a.IssuerID, &a.KeyID, &a.CAChainPEM, &a.SignsCRL)
	if errors.Is(err, pgx.ErrNoRows) {
		return Authority{}, false, nil
	}
	if err != nil {
		return Authority{}, false, fmt.Errorf("read CA %s: %w", id, pg.Fault(err))
	}
	return a, true, nil
}

const wasIssued = `SELECT EXISTS (SELECT FROM issued_serials
WHERE issuer_id = $1 AND serial_number = $2 AND (authority_key_id = $3 OR $4 AND authority_key_id = ''))`

// Issued tells whether an authority has issued the serial number, in canonical form. What another key of its issuer has
// issued it has not. keyID is its subject key identifier in lower-case hex.
func (s Store) Issued(ctx context.Context, a Authority, keyID, serial string) (bool, error) {
	var issued bool
	if err := s.Pool.QueryRow(ctx, wasIssued, a.IssuerID, serial, keyID, a.First()).Scan(&issued); err != nil {
		return false, fmt.Errorf("look up a serial number: %w", pg.Fault(err))
	}
	return issued, nil
}

const getCRL = `SELECT issuer_id, number, der, this_update, next_update FROM crls WHERE issuer_id = $1`

// CRL returns the newest list of an authority, with number zero if there is none yet.
func (s Store) CRL(ctx context.Context, authorityID string) (CRL, error) {
	var c CRL
	err := s.Pool.QueryRow(ctx, getCRL, authorityID).Scan(&c.AuthorityID, &c.Number, &c.DER, &c.ThisUpdate, &c.NextUpdate)
	if errors.Is(err, pgx.ErrNoRows) {
		return CRL{AuthorityID: authorityID}, nil
	}
	if err != nil {
		return CRL{}, fmt.Errorf("read the list of %s: %w", authorityID, pg.Fault(err))
	}
	return c, nil
}

const saveCRL = `
INSERT INTO crls (issuer_id, number, der, this_update, next_update) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (issuer_id) DO UPDATE
SET number = excluded.number, der = excluded.der, this_update = excluded.this_update, next_update = excluded.next_update
WHERE crls.number < excluded.number`

// SaveCRL keeps a list unless one of the same or a higher number is there, and reports
// whether it did.
func (s Store) SaveCRL(ctx context.Context, c CRL) (bool, error) {
	tag, err := s.Pool.Exec(ctx, saveCRL, c.AuthorityID, c.Number, c.DER, c.ThisUpdate, c.NextUpdate)
	if err != nil {
		return false, fmt.Errorf("save the list of %s: %w", c.AuthorityID, pg.Fault(err))
	}
	return tag.RowsAffected() == 1, nil
}
