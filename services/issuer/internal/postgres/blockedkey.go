package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/blockedkey"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// BlockedRevision implements [blockedkey.Source].
func (s *Store) BlockedRevision(ctx context.Context) (int64, error) {
	return blockedRevision(ctx, s.pool)
}

func blockedRevision(ctx context.Context, q querier) (revision int64, err error) {
	if err := q.QueryRow(ctx, `SELECT revision FROM blocked_keys_revision`).Scan(&revision); err != nil {
		return 0, pg.Fault(fmt.Errorf("read the revision of the keys that are blocked: %w", err))
	}
	return revision, nil
}

// BlockedKeys implements [blockedkey.Source]. The revision is read first: what changes meanwhile is at worst read twice.
func (s *Store) BlockedKeys(ctx context.Context) (map[blockedkey.Hash]blockedkey.Reason, int64, error) {
	revision, err := s.BlockedRevision(ctx)
	if err != nil {
		return nil, 0, err
	}
	rows, err := s.pool.Query(ctx, `SELECT spki_sha256, reason FROM blocked_keys`)
	if err != nil {
		return nil, 0, pg.Fault(fmt.Errorf("read the keys that are blocked: %w", err))
	}
	keys := map[blockedkey.Hash]blockedkey.Reason{}
	var spki, reason string
	_, err = pgx.ForEachRow(rows, []any{&spki, &reason}, func() error {
		hash, ok := blockedkey.ParseHash(spki)
		if !ok {
			return fmt.Errorf("%q is no hash", spki)
		}
		keys[hash] = blockedkey.Reason(reason)
		return nil
	})
	if err != nil {
		return nil, 0, pg.Fault(fmt.Errorf("read the keys that are blocked: %w", err))
	}
	return keys, revision, nil
}

const blockedColumns = `k.spki_sha256, k.reason, k.comment, k.blocked_by, k.created_at`

func scanBlocked(row pgx.CollectableRow) (blockedkey.Key, error) {
	var k blockedkey.Key
	var spki string
	err := row.Scan(&spki, &k.Reason, &k.Comment, &k.By, &k.CreatedAt)
	k.Hash, _ = blockedkey.ParseHash(spki) // the column holds nothing else
	return k, err
}

// BlockedKeyList returns a page of the keys that are blocked, the newest first.
func (s *Store) BlockedKeyList(ctx context.Context, reason *string, p Page) (List[blockedkey.Key], error) {
	var c conditions
	c.equal("k.reason", reason)
	return listPage(ctx, s, listing[blockedkey.Key]{
		columns: blockedColumns, from: "blocked_keys k", conditions: c, sort: "k.created_at", id: "k.spki_sha256", descending: true,
		page: p, scan: scanBlocked, place: func(k *blockedkey.Key) page.Cursor { return page.At(k.CreatedAt, k.Hash.String()) },
	})
}

func blockedKey(ctx context.Context, q querier, h blockedkey.Hash, lock string) (blockedkey.Key, error) {
	return one(ctx, q, row[blockedkey.Key]{"blocked key", h.String(), scanBlocked},
		`SELECT `+blockedColumns+` FROM blocked_keys k WHERE k.spki_sha256 = $1`+lock, h.String())
}

// BlockedKey returns a key that is blocked, NotFound if it is not.
func (s *Store) BlockedKey(ctx context.Context, h blockedkey.Hash) (blockedkey.Key, error) {
	return blockedKey(ctx, s.pool, h, "")
}

// BlockKey implements [regulation.KeyStore].
func (s *Store) BlockKey(ctx context.Context, k blockedkey.Key, f issuance.Fact) (added bool, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) error {
		added, err = blockKey(ctx, tx, k, f)
		return err
	})
	return added, err
}

// BlockKey is that of Store within a transaction that somebody else commits, such as the one that revokes a certificate
// for keyCompromise. Whoever commits it tells the outbox's relay and [blockedkey.Set.Forget].
func (t Tx) BlockKey(ctx context.Context, k blockedkey.Key, f issuance.Fact) (added bool, err error) {
	return blockKey(ctx, t.tx, k, f)
}

func blockKey(ctx context.Context, tx pgx.Tx, k blockedkey.Key, f issuance.Fact) (bool, error) {
	tag, err := tx.Exec(ctx, `INSERT INTO blocked_keys (spki_sha256, reason, comment, blocked_by, created_at)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT (spki_sha256) DO NOTHING`, k.Hash.String(), string(k.Reason), k.Comment, k.By, k.CreatedAt)
	if err != nil {
		return false, fmt.Errorf("block key %s: %w", k.Hash, err)
	}
	if tag.RowsAffected() == 0 {
		return false, nil
	}
	return true, tellOfBlocked(ctx, tx, f)
}

// tellOfBlocked numbers what is told of a key by the revision of all, since a key can be blocked again.
func tellOfBlocked(ctx context.Context, tx pgx.Tx, f issuance.Fact) error {
	revision, err := blockedRevision(ctx, tx)
	if err != nil {
		return err
	}
	return tell(ctx, tx, revision, f)
}

// UnblockKey implements [regulation.KeyStore].
func (s *Store) UnblockKey(ctx context.Context, h blockedkey.Hash, decide func(blockedkey.Key) issuance.Fact) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		k, err := blockedKey(ctx, tx, h, forRemoval)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM blocked_keys WHERE spki_sha256 = $1`, h.String()); err != nil {
			return fmt.Errorf("unblock key %s: %w", h, err)
		}
		return tellOfBlocked(ctx, tx, decide(k))
	})
}
