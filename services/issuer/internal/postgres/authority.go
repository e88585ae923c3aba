package postgres

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// authorityKeyID is the key of the CA that signed the first certificate of a chain, in lower-case hex: the leaf's authority
// key identifier (RFC 5280 section 4.2.1.1), or the subject key identifier of the certificate above it. It is empty if
// neither says.
func authorityKeyID(pemChain string) string {
	// The leaf says, as a rule; the others need not be read then.
	block, rest := pem.Decode([]byte(pemChain))
	if block == nil {
		return ""
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	if len(leaf.AuthorityKeyId) > 0 {
		return hex.EncodeToString(leaf.AuthorityKeyId)
	}
	if above, err := x509x.ParseCertificates(rest); err == nil {
		return hex.EncodeToString(above[0].SubjectKeyId)
	}
	return ""
}

// subjectKeyID is the key of the first certificate of a CA's chain, in lower-case hex, empty if that cannot be read.
func subjectKeyID(chain string) string {
	certs, err := x509x.ParseCertificates([]byte(chain))
	if err != nil {
		return ""
	}
	return hex.EncodeToString(certs[0].SubjectKeyId)
}

// authorityKeyIDs are those of new versions, empty where there is none.
func authorityKeyIDs(versions []*issuance.Version) []string {
	return column(versions, func(v **issuance.Version) string {
		switch {
		case *v == nil:
			return ""
		case (*v).AuthorityKeyID != "":
			return (*v).AuthorityKeyID
		default:
			return authorityKeyID((*v).PEMChain)
		}
	})
}

const (
	unreadSQL = `SELECT id, pem_chain FROM certificate_versions WHERE authority_key_id IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED`
	readSQL   = `UPDATE certificate_versions v SET authority_key_id = i.key
FROM unnest($1::text[], $2::text[]) AS i (id, key) WHERE v.id = i.id`
)

// ReadAuthorities finds out which keys signed versions of which that is not known yet, so many at most, and returns of how
// many.
func (s *Store) ReadAuthorities(ctx context.Context, limit int) (n int, err error) {
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		var ids, keys []string
		rows, err := tx.Query(ctx, unreadSQL, limit)
		if err != nil {
			return fmt.Errorf("read whose key signed versions: %w", err)
		}
		var id, chain string
		if _, err := pgx.ForEachRow(rows, []any{&id, &chain}, func() error {
			ids, keys = append(ids, id), append(keys, authorityKeyID(chain))
			return nil
		}); err != nil {
			return fmt.Errorf("read whose key signed versions: %w", err)
		}
		n = len(ids)
		if n == 0 {
			return nil
		}
		if _, err := tx.Exec(ctx, readSQL, ids, keys); err != nil {
			return fmt.Errorf("note whose key signed versions: %w", err)
		}
		return nil
	})
	return n, err
}

// unreadLimit is how many versions are read at once for somebody who waits.
const unreadLimit = 2000

// authoritiesKnown is Unavailable while it is not known of every version which key signed it.
func (s *Store) authoritiesKnown(ctx context.Context) error {
	// Those of a replica of an older build may be a few; those of an older installation are read in the background.
	n, err := s.ReadAuthorities(ctx, unreadLimit)
	if err != nil {
		return err
	}
	if n == unreadLimit {
		return fault.New(fault.Unavailable, "which CA key has signed which certificate is being read from what was issued before; try again in a minute")
	}
	return nil
}

// One version of each key, by hops from key to key in the index.
const authoritiesSQL = `WITH RECURSIVE key AS (
	(SELECT authority_key_id FROM certificate_versions WHERE authority_key_id IS NOT NULL ORDER BY authority_key_id LIMIT 1)
	UNION ALL
	SELECT (SELECT v.authority_key_id FROM certificate_versions v WHERE v.authority_key_id > key.authority_key_id ORDER BY v.authority_key_id LIMIT 1)
	FROM key WHERE key.authority_key_id IS NOT NULL
)
SELECT key.authority_key_id, v.pem_chain FROM key, LATERAL (
	SELECT pem_chain FROM certificate_versions v WHERE v.authority_key_id = key.authority_key_id LIMIT 1) v
WHERE key.authority_key_id <> ''
UNION ALL
SELECT '', ca_chain_pem FROM issuers WHERE ca_chain_pem <> ''
UNION ALL
SELECT '', chain_pem FROM ca_keys`

// AuthorityKeyOf implements [campaign.Store].
func (s *Store) AuthorityKeyOf(ctx context.Context, fingerprint string) (string, error) {
	if err := s.authoritiesKnown(ctx); err != nil {
		return "", err
	}
	rows, err := s.pool.Query(ctx, authoritiesSQL)
	if err != nil {
		return "", pg.Fault(fmt.Errorf("look for the CA certificate %s: %w", fingerprint, err))
	}
	var key, chain, found string
	if _, err := pgx.ForEachRow(rows, []any{&key, &chain}, func() error {
		certs, err := x509x.ParseCertificates([]byte(chain))
		if err != nil {
			// What a CA has shown may be anything.
			return nil //nolint:nilerr // it is not the one that is looked for
		}
		for i, c := range certs {
			if x509x.Fingerprint(c.Raw) != fingerprint {
				continue
			}
			if found = hex.EncodeToString(c.SubjectKeyId); found == "" && i == 1 {
				found = key
			}
		}
		return nil
	}); err != nil {
		return "", pg.Fault(fmt.Errorf("look for the CA certificate %s: %w", fingerprint, err))
	}
	if found == "" {
		return "", fault.InvalidFields(fault.Field{
			Name:   "selection.ca_fingerprint_sha256",
			Reason: "is of no CA certificate in the chains that were issued here; authority_key_id names the key of one that is not",
		})
	}
	return found, nil
}

// Authorities implements what runs in the background: it reads until nothing is left.
type Authorities struct{ *Store }

// authorityBatch is how many versions are read in one transaction.
const authorityBatch = 500

// Work reads some, and reports whether more are left.
func (a Authorities) Work(ctx context.Context) (bool, error) {
	n, err := a.ReadAuthorities(ctx, authorityBatch)
	return n == authorityBatch, err
}
