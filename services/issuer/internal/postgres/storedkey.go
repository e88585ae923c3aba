package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// keyState is what became of the private key of a version v, as issuance.Version has it.
const keyState = `COALESCE((SELECT CASE WHEN k.sealed_key IS NULL THEN 'gone' WHEN k.made THEN 'waiting' WHEN k.exportable THEN 'exportable'
	ELSE 'kept' END FROM certificate_keys k WHERE k.certificate_id = v.certificate_id AND k.spki_sha256 = v.spki_sha256), '')`

const keepKeysSQL = `INSERT INTO certificate_keys (certificate_id, spki_sha256, sealed_key, exportable, made, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::boolean[], $5::boolean[], $6::timestamptz[])`

func keepKeys(ctx context.Context, q querier, keys []issuance.StoredKey) error {
	type row = issuance.StoredKey
	_, err := q.Exec(ctx, keepKeysSQL,
		column(keys, func(k *row) string { return k.CertificateID }),
		column(keys, func(k *row) string { return k.SPKI }),
		column(keys, func(k *row) []byte { return k.Sealed }),
		column(keys, func(k *row) bool { return k.Exportable }),
		column(keys, func(k *row) bool { return k.Made }),
		column(keys, func(k *row) time.Time { return k.CreatedAt }))
	if err != nil {
		return fmt.Errorf("keep %d keys: %w", len(keys), err)
	}
	return nil
}

// A key that was made for a version which never came to be is of no use to anybody.
const dropKeysSQL = `UPDATE certificate_keys k SET sealed_key = NULL, gone_at = $2, gone_why = 'the job that it was made for has ended without a certificate'
FROM jobs j
WHERE j.id = ANY($1) AND k.certificate_id = j.certificate_id AND k.made AND k.sealed_key IS NOT NULL
	AND NOT EXISTS (SELECT FROM certificate_versions v WHERE v.certificate_id = k.certificate_id AND v.spki_sha256 = k.spki_sha256)`

// settleKeys stores the keys of changes that were made, and deletes those whose jobs have ended in vain.
func settleKeys(ctx context.Context, q querier, changes []issuance.Change, applied map[string]bool) error {
	var made []issuance.StoredKey
	var ended []string
	var at time.Time
	for i := range changes {
		c := &changes[i]
		if !applied[c.JobID] {
			continue
		}
		if c.Key != nil {
			made = append(made, *c.Key)
		}
		if c.Status == issuance.JobFailed || c.Status == issuance.JobCancelled {
			ended, at = append(ended, c.JobID), c.At
		}
	}
	if len(made) > 0 {
		if err := keepKeys(ctx, q, made); err != nil {
			return err
		}
	}
	if len(ended) == 0 {
		return nil
	}
	if _, err := q.Exec(ctx, dropKeysSQL, ended, at); err != nil {
		return fmt.Errorf("delete keys of %d jobs: %w", len(ended), err)
	}
	return nil
}

const archiveKeysSQL = `UPDATE certificate_keys SET sealed_key = NULL, gone_at = $2, gone_why = 'the certificate was archived'
WHERE certificate_id = $1 AND made AND sealed_key IS NOT NULL`

const endKeysSQL = `UPDATE certificate_keys k SET sealed_key = NULL, gone_at = $1, gone_why = 'nobody fetched it before its certificate ended'
WHERE k.made AND k.sealed_key IS NOT NULL AND EXISTS (SELECT FROM certificate_versions v
	WHERE v.certificate_id = k.certificate_id AND v.spki_sha256 = k.spki_sha256 AND v.not_after < $1)`

// ForgetKeys deletes keys that were made here and that nobody has fetched while their versions held. It returns how many.
func (s *Store) ForgetKeys(ctx context.Context, now time.Time) (int64, error) {
	done, err := s.pool.Exec(ctx, endKeysSQL, now)
	return done.RowsAffected(), pg.Fault(err)
}

const keySQL = `SELECT certificate_id, spki_sha256, sealed_key, exportable, made, created_at, gone_at, gone_why
FROM certificate_keys WHERE certificate_id = $1 AND spki_sha256 = $2`

func storedKey(ctx context.Context, q querier, sql, certificateID, spki string) (*issuance.StoredKey, error) {
	var k issuance.StoredKey
	var gone *time.Time
	err := q.QueryRow(ctx, sql, certificateID, spki).
		Scan(&k.CertificateID, &k.SPKI, &k.Sealed, &k.Exportable, &k.Made, &k.CreatedAt, &gone, &k.GoneWhy)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("read a key of %s: %w", certificateID, err)
	}
	k.GoneAt = orZero(gone)
	return &k, nil
}

// Key implements [issuance.Store].
func (s *Store) Key(ctx context.Context, certificateID, spki string) (*issuance.StoredKey, error) {
	k, err := storedKey(ctx, s.pool, keySQL, certificateID, spki)
	return k, pg.Fault(err)
}

const (
	consumeKeySQL = `UPDATE certificate_keys SET sealed_key = NULL, gone_at = $3, gone_why = $4 WHERE certificate_id = $1 AND spki_sha256 = $2`
	// What the certificate says that it waits for is over with its delivery.
	releasedSQL = `UPDATE certificates SET version = version + 1, updated_at = $2, status_reason = CASE WHEN $3 AND status = 'Active' THEN '' ELSE status_reason END
WHERE id = $1 RETURNING version`
)

// Release implements [issuance.Store].
func (s *Store) Release(ctx context.Context, r issuance.Release) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		// The certificate first, in the order in which everybody locks.
		var revision int64
		err := tx.QueryRow(ctx, releasedSQL, r.CertificateID, r.Fact.At, r.Consume).Scan(&revision)
		if err != nil {
			return fmt.Errorf("number what is told of %s: %w", r.CertificateID, err)
		}
		k, err := storedKey(ctx, tx, keySQL+` FOR UPDATE`, r.CertificateID, r.SPKI)
		switch {
		case err != nil:
			return err
		case k == nil:
			return fault.New(fault.NotFound, "no such key of certificate %s was ever here", r.CertificateID)
		}
		if err := r.Hand(*k); err != nil {
			return err
		}
		if r.Consume {
			if _, err := tx.Exec(ctx, consumeKeySQL, r.CertificateID, r.SPKI, r.Fact.At, issuance.Delivered); err != nil {
				return fmt.Errorf("delete a key of %s: %w", r.CertificateID, err)
			}
		}
		return tell(ctx, tx, revision, r.Fact)
	})
}
