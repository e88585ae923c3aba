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
	// Version orders what is heard of an issuer; older news changes nothing.
	Version int64
}

// Serial is a certificate that an issuer has issued.
type Serial struct {
	IssuerID, SerialNumber, CertificateID, VersionID string
	NotAfter                                         time.Time
}

// CRL is a signed revocation list.
type CRL struct {
	IssuerID               string
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
	if _, err := tx.Exec(ctx, saveIssuer, i.ID, i.Name, i.Type, i.CAChainPEM, i.SignsCRL, i.Version); err != nil {
		return fmt.Errorf("save issuer %s: %w", i.ID, err)
	}
	return nil
}

const saveSerials = `
INSERT INTO issued_serials (issuer_id, serial_number, certificate_id, version_id, not_after)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
ON CONFLICT DO NOTHING`

// SaveSerials keeps serial numbers, within tx.
func SaveSerials(ctx context.Context, tx pgx.Tx, serials []Serial) error {
	if len(serials) == 0 {
		return nil
	}
	var text [4][]string
	var notAfter []time.Time
	for _, s := range serials {
		for i, v := range []string{s.IssuerID, s.SerialNumber, s.CertificateID, s.VersionID} {
			text[i] = append(text[i], v)
		}
		notAfter = append(notAfter, s.NotAfter)
	}
	if _, err := tx.Exec(ctx, saveSerials, text[0], text[1], text[2], text[3], notAfter); err != nil {
		return fmt.Errorf("save %d serial numbers: %w", len(serials), err)
	}
	return nil
}

// Store reads, and keeps lists.
type Store struct {
	Pool *pgxpool.Pool
}

const getIssuer = `SELECT id, name, type, ca_chain_pem, signs_crl, version FROM issuers WHERE id = $1`

// Issuer returns an issuer. found is false if there is none.
func (s Store) Issuer(ctx context.Context, id string) (i Issuer, found bool, err error) {
	err = s.Pool.QueryRow(ctx, getIssuer, id).Scan(&i.ID, &i.Name, &i.Type, &i.CAChainPEM, &i.SignsCRL, &i.Version)
	if errors.Is(err, pgx.ErrNoRows) {
		return Issuer{}, false, nil
	}
	if err != nil {
		return Issuer{}, false, fmt.Errorf("read issuer %s: %w", id, pg.Fault(err))
	}
	return i, true, nil
}

const wasIssued = `SELECT EXISTS (SELECT FROM issued_serials WHERE issuer_id = $1 AND serial_number = $2)`

// Issued tells whether the issuer has issued the serial number, in canonical form.
func (s Store) Issued(ctx context.Context, issuerID, serial string) (bool, error) {
	var issued bool
	if err := s.Pool.QueryRow(ctx, wasIssued, issuerID, serial).Scan(&issued); err != nil {
		return false, fmt.Errorf("look up a serial number: %w", pg.Fault(err))
	}
	return issued, nil
}

const getCRL = `SELECT issuer_id, number, der, this_update, next_update FROM crls WHERE issuer_id = $1`

// CRL returns the newest list of an issuer, with number zero if there is none yet.
func (s Store) CRL(ctx context.Context, issuerID string) (CRL, error) {
	var c CRL
	err := s.Pool.QueryRow(ctx, getCRL, issuerID).Scan(&c.IssuerID, &c.Number, &c.DER, &c.ThisUpdate, &c.NextUpdate)
	if errors.Is(err, pgx.ErrNoRows) {
		return CRL{IssuerID: issuerID}, nil
	}
	if err != nil {
		return CRL{}, fmt.Errorf("read the list of %s: %w", issuerID, pg.Fault(err))
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
	tag, err := s.Pool.Exec(ctx, saveCRL, c.IssuerID, c.Number, c.DER, c.ThisUpdate, c.NextUpdate)
	if err != nil {
		return false, fmt.Errorf("save the list of %s: %w", c.IssuerID, pg.Fault(err))
	}
	return tag.RowsAffected() == 1, nil
}
