package apikey

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

const columns = `id, name, prefix, roles, scope, created_by, created_at, updated_at, revision, expires_at, revoked_at,
last_used_at, previous_until`

func scan(row pgx.CollectableRow) (k Key, err error) {
	err = row.Scan(&k.ID, &k.Name, &k.Prefix, &k.Roles, &k.Scope, &k.CreatedBy, &k.CreatedAt, &k.UpdatedAt, &k.Revision,
		&k.ExpiresAt, &k.RevokedAt, &k.LastUsedAt, &k.PreviousUntil)
	return k, err
}

// visible are the keys that admit nothing that the caller's scope ($1 to $4) does not.
const visible = `($1::text[] IS NULL OR scope->'teams' <@ to_jsonb($1::text[]))
AND ($2::text[] IS NULL OR scope->'environments' <@ to_jsonb($2::text[]))
AND ($3::text[] IS NULL OR scope->'issuers' <@ to_jsonb($3::text[]))
AND ($4::text[] IS NULL OR scope->'profiles' <@ to_jsonb($4::text[]))`

func limits(p authn.Principal) []any {
	return []any{p.Scope.Teams, p.Scope.Environments, p.Scope.Issuers, p.Scope.Profiles}
}

// Asked is which keys are listed: those behind a cursor if there is one, else a page.
type Asked struct {
	Size, Offset int
	Behind       *page.Cursor
	WithRevoked  bool
}

const (
	countKeys = `SELECT count(*) FROM api_keys WHERE ` + visible + ` AND ($5 OR revoked_at IS NULL)`
	listKeys  = `SELECT ` + columns + ` FROM api_keys WHERE ` + visible + ` AND ($5 OR revoked_at IS NULL)
AND ($6::timestamptz IS NULL OR (created_at, id) < ($6, $7)) ORDER BY created_at DESC, id DESC LIMIT $8 OFFSET $9`
)

// List returns keys, newest first, one more than asked for if there are more, and how
// many there are in all.
func (s *Store) List(ctx context.Context, p authn.Principal, a Asked) (keys []Key, total int64, err error) {
	args := append(limits(p), a.WithRevoked)
	if err := s.pool.QueryRow(ctx, countKeys, args...).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count API keys: %w", pg.Fault(err))
	}
	var before *time.Time
	var id string
	if a.Behind != nil {
		t, err := a.Behind.Time()
		if err != nil {
			return nil, 0, err
		}
		before, id, a.Offset = &t, a.Behind.ID, 0
	}
	rows, err := s.pool.Query(ctx, listKeys, append(args, before, id, a.Size+1, a.Offset)...)
	if err != nil {
		return nil, 0, fmt.Errorf("list API keys: %w", pg.Fault(err))
	}
	if keys, err = pgx.CollectRows(rows, scan); err != nil {
		return nil, 0, fmt.Errorf("list API keys: %w", pg.Fault(err))
	}
	return keys, total, nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const (
	getKey  = `SELECT ` + columns + ` FROM api_keys WHERE ` + visible + ` AND id = $5`
	lockKey = getKey + ` FOR UPDATE`
)

func get(ctx context.Context, db querier, sql string, p authn.Principal, id string) (Key, error) {
	rows, err := db.Query(ctx, sql, append(limits(p), id)...)
	if err != nil {
		return Key{}, fmt.Errorf("read API key: %w", pg.Fault(err))
	}
	k, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return Key{}, fault.New(fault.NotFound, "there is no API key %q", id)
	}
	if err != nil {
		return Key{}, fmt.Errorf("read API key: %w", pg.Fault(err))
	}
	return k, nil
}

// Get returns what is known of a key. It is NotFound if there is none within the caller's
// scope.
func (s *Store) Get(ctx context.Context, p authn.Principal, id string) (Key, error) {
	return get(ctx, s.pool, getKey, p, id)
}

const insertKey = `INSERT INTO api_keys
(id, name, prefix, hash, roles, scope, created_by, created_at, updated_at, revision, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, 1, $9)`

func insert(ctx context.Context, tx pgx.Tx, k Key, hash [32]byte) error {
	_, err := tx.Exec(ctx, insertKey, k.ID, k.Name, k.Prefix, hash[:], k.Roles, k.Scope, k.CreatedBy, k.CreatedAt, k.ExpiresAt)
	if err != nil {
		return fmt.Errorf("store API key %s: %w", k.ID, err)
	}
	return nil
}

const updateKey = `UPDATE api_keys
SET name = $2, roles = $3, scope = $4, expires_at = $5, revoked_at = $6, updated_at = $7, revision = $8
WHERE id = $1`

func update(ctx context.Context, tx pgx.Tx, k Key) error {
	_, err := tx.Exec(ctx, updateKey, k.ID, k.Name, k.Roles, k.Scope, k.ExpiresAt, k.RevokedAt, k.UpdatedAt, k.Revision)
	if err != nil {
		return fmt.Errorf("write API key %s: %w", k.ID, err)
	}
	return nil
}

// Without an overlap the old hash goes at once.
const rotateKey = `UPDATE api_keys
SET hash = $2, prefix = $3, previous_hash = CASE WHEN $4::timestamptz IS NOT NULL THEN hash END, previous_until = $4,
	updated_at = $5, revision = $6
WHERE id = $1`

func rotate(ctx context.Context, tx pgx.Tx, k Key, hash [32]byte) error {
	if _, err := tx.Exec(ctx, rotateKey, k.ID, hash[:], k.Prefix, k.PreviousUntil, k.UpdatedAt, k.Revision); err != nil {
		return fmt.Errorf("write API key %s: %w", k.ID, err)
	}
	return nil
}

const (
	// Changes of keys wait for each other, since each may be about the last admin.
	lockKeys   = `SELECT pg_advisory_xact_lock(hashtext('certctl api_keys'))`
	findAdmins = `SELECT EXISTS (SELECT FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
AND scope = '{}' AND $1 = ANY (roles))`
)

// adminLeft reports whether somebody can still do everything. The caller holds lockKeys.
func adminLeft(ctx context.Context, tx pgx.Tx, now time.Time) (left bool, err error) {
	if err := tx.QueryRow(ctx, findAdmins, permission.Admin, now).Scan(&left); err != nil {
		return false, fmt.Errorf("look for an admin's API key: %w", err)
	}
	return left, nil
}
