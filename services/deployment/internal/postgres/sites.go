package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
)

// Site is a place with a leaf of its own.
type Site struct {
	ID        string
	Name      string
	Status    string
	PublicKey string
	CreatedAt time.Time
}

const siteColumns = `id, name, status, coalesce(public_key, ''), created_at`

const insertSite = `INSERT INTO sites (id, name, created_at, ensure_at) VALUES ($1, $2, $3, $3)`

// InsertSite adds a site. It is a Conflict if the id or the name is taken.
func InsertSite(ctx context.Context, tx pgx.Tx, s Site) error {
	_, err := tx.Exec(ctx, insertSite, s.ID, s.Name, s.CreatedAt)
	switch {
	case pg.IsUnique(err) && pg.Constraint(err) == "sites_name":
		return fault.Wrap(err, fault.Conflict, "there is a site named %q already", s.Name)
	case pg.IsUnique(err):
		return fault.Wrap(err, fault.Conflict, "there is a site %s already", s.ID)
	case err != nil:
		return fmt.Errorf("insert site %s: %w", s.ID, err)
	}
	return nil
}

// ReadSite reads a site. It is NotFound if there is none.
func ReadSite(ctx context.Context, db Querier, id string) (Site, error) {
	rows, err := db.Query(ctx, `SELECT `+siteColumns+` FROM sites WHERE id = $1`, id)
	if err != nil {
		return Site{}, fmt.Errorf("read site: %w", err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Site])
	if errors.Is(err, pgx.ErrNoRows) {
		return s, fault.New(fault.NotFound, "there is no site %s", id)
	}
	if err != nil {
		return s, fmt.Errorf("read site: %w", err)
	}
	return s, nil
}

// ListSites reads one page of sites, by name, and counts them all.
func ListSites(ctx context.Context, db Querier, limit, offset int) (sites []Site, total int64, err error) {
	sites, err = collect(ctx, db, pgx.RowToStructByPos[Site],
		`SELECT `+siteColumns+` FROM sites ORDER BY name LIMIT $1 OFFSET $2`, limit, offset)
	if err != nil {
		return nil, 0, fmt.Errorf("list sites: %w", err)
	}
	if err := db.QueryRow(ctx, `SELECT count(*) FROM sites`).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count sites: %w", err)
	}
	return sites, total, nil
}

const connectSite = `WITH was AS (SELECT id, coalesce(public_key, '') AS public_key FROM sites WHERE id = $1 FOR UPDATE)
UPDATE sites s SET status = 'Connected', public_key = $2, connected_at = $3, account_revision = $4,
	revision = s.revision + 1
FROM was WHERE s.id = was.id AND was.public_key <> $2
RETURNING s.revision, was.public_key`

// ConnectSite gives a site the key of its leaf, which knows the account JWT of a
// revision. The result is the site's own revision, or zero if the leaf was known, and the
// key of the leaf before, if there was one.
func ConnectSite(ctx context.Context, tx pgx.Tx, siteID, publicKey string, account int64, now time.Time) (revision int64, before string, err error) {
	err = tx.QueryRow(ctx, connectSite, siteID, publicKey, now, account).Scan(&revision, &before)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, "", nil
	case pg.IsUnique(err):
		return 0, "", fault.Wrap(err, fault.Conflict, "this key belongs to another site; a leaf makes a key of its own")
	case err != nil:
		return 0, "", fmt.Errorf("connect site %s: %w", siteID, err)
	}
	return revision, before, nil
}

const (
	ensureAll  = `UPDATE sites SET ensure_at = $1 WHERE ensure_at > $1`
	claimSites = `WITH due AS (
	SELECT id FROM sites WHERE ensure_at <= $1 ORDER BY ensure_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE sites s SET ensure_at = $2 FROM due WHERE s.id = due.id RETURNING s.id`
	ensureSiteAt = `UPDATE sites SET ensure_at = $2 WHERE id = $1`
)

// EnsureAllSites makes the durables of all sites due.
func EnsureAllSites(ctx context.Context, db Querier, now time.Time) error {
	if _, err := db.Exec(ctx, ensureAll, now); err != nil {
		return fmt.Errorf("make sites due: %w", err)
	}
	return nil
}

// ClaimSites takes sites whose durable is to be looked after, and makes them due again
// later.
func ClaimSites(ctx context.Context, db Querier, now, again time.Time, limit int) ([]string, error) {
	ids, err := collect(ctx, db, pgx.RowTo[string], claimSites, now, again, limit)
	if err != nil {
		return nil, fmt.Errorf("claim sites: %w", err)
	}
	return ids, nil
}

// EnsureSiteAt makes the durable of one site due at a time.
func EnsureSiteAt(ctx context.Context, db Querier, id string, at time.Time) error {
	if _, err := db.Exec(ctx, ensureSiteAt, id, at); err != nil {
		return fmt.Errorf("make site %s due: %w", id, err)
	}
	return nil
}

// NextSite is when a site's durable is due next.
func NextSite(ctx context.Context, db Querier) (time.Time, error) {
	return next(ctx, db, "a site", `SELECT min(ensure_at) FROM sites`)
}

const insertToken = `INSERT INTO enrolment_tokens (id, kind, site_id, secret_hash, expires_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6)`

// InsertToken adds a token. It is NotFound if its site does not exist.
func InsertToken(ctx context.Context, db Querier, t fleet.Token, now time.Time) error {
	_, err := db.Exec(ctx, insertToken, t.ID, t.Kind, t.SiteID, t.Hash[:], t.ExpiresAt, now)
	switch {
	case pg.IsForeignKey(err):
		return fault.Wrap(err, fault.NotFound, "there is no site %s", t.SiteID)
	case err != nil:
		return fmt.Errorf("insert token %s: %w", t.ID, err)
	}
	return nil
}

// One statement decides who uses a token: the first key, and that key again.
const (
	redeemToken = `UPDATE enrolment_tokens SET used_at = coalesce(used_at, $6), used_key = $5
WHERE id = $1 AND kind = $2 AND site_id = $3 AND secret_hash = $4 AND expires_at > $6
	AND (used_key IS NULL OR used_key = $5)`
	judgeToken = `SELECT expires_at, used_key FROM enrolment_tokens
WHERE id = $1 AND kind = $2 AND site_id = $3 AND secret_hash = $4`
)

// RedeemToken uses a token for a key. A token makes one principal: whoever comes with
// another key is refused, with the reason. The same key may come again while the token
// lasts, since the first answer may have been lost.
func RedeemToken(ctx context.Context, tx pgx.Tx, t fleet.Token, publicKey string, now time.Time) error {
	tag, err := tx.Exec(ctx, redeemToken, t.ID, t.Kind, t.SiteID, t.Hash[:], publicKey, now)
	if err != nil {
		return fmt.Errorf("redeem token %s: %w", t.ID, err)
	}
	if tag.RowsAffected() == 1 {
		return nil
	}
	var expires time.Time
	var usedBy *string
	err = tx.QueryRow(ctx, judgeToken, t.ID, t.Kind, t.SiteID, t.Hash[:]).Scan(&expires, &usedBy)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fault.New(fault.Unauthenticated, "the enrolment token is not known here")
	case err != nil:
		return fmt.Errorf("judge token %s: %w", t.ID, err)
	case usedBy != nil && *usedBy != publicKey:
		return fault.New(fault.Conflict, "the enrolment token has been used; each is good for one host, so make another")
	default:
		return fault.New(fault.Forbidden, "the enrolment token expired at %s; make another", expires.UTC().Format(time.RFC3339))
	}
}

const pruneTokens = `DELETE FROM enrolment_tokens WHERE id IN (
	SELECT id FROM enrolment_tokens WHERE expires_at < $1 ORDER BY expires_at LIMIT 5000 FOR UPDATE SKIP LOCKED)`

// PruneTokens forgets some tokens that expired before a time.
func PruneTokens(ctx context.Context, db Querier, before time.Time) error {
	if _, err := db.Exec(ctx, pruneTokens, before); err != nil {
		return fmt.Errorf("prune tokens: %w", err)
	}
	return nil
}
