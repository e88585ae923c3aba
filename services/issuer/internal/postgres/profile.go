package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/profile"
)

// profilesOf limits profiles p to a scope.
func profilesOf(scope authn.Scope, args ...any) conditions {
	c := conditions{args: args}
	if scope.Profiles != nil {
		c.parts = append(c.parts, "p.id = ANY("+c.arg(scope.Profiles)+")")
	}
	return c
}

// Profiles returns a page of the profiles within a scope, in the order of their creation.
func (s *Store) Profiles(ctx context.Context, scope authn.Scope, p Page) (List[*profile.Profile], error) {
	return listPage(ctx, s, listing[*profile.Profile]{
		columns: profileColumns, from: "certificate_profiles p", conditions: profilesOf(scope), sort: "p.created_at", id: "p.id",
		page: p, scan: scanProfile, place: func(row **profile.Profile) page.Cursor { return page.At((*row).CreatedAt, (*row).ID) },
	})
}

// Profile implements [regulation.Store].
func (s *Store) Profile(ctx context.Context, scope authn.Scope, id string) (*profile.Profile, error) {
	c := profilesOf(scope, id)
	found, err := readRules(ctx, s, `SELECT `+profileColumns+` FROM certificate_profiles p WHERE p.id = $1`+c.and(), scanProfile, c.args...)
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, fault.New(fault.NotFound, "there is no profile %s", id)
	default:
		return found[0], nil
	}
}

var addProfileSQL = `WITH profile AS (
	INSERT INTO certificate_profiles (id, name, description, allowed_key_algorithms, max_ttl_seconds, allowed_ekus,
		required_san_patterns, spiffe_uri_pattern, allow_short_lived, enabled, lint_ruleset, lint_mode, lint_ignore, reuse_key,
		created_at, updated_at)
	VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)
	ON CONFLICT (id) DO NOTHING
	RETURNING id, version
), event AS (
	` + insertEvents("profile", "id", 16) + `
)
SELECT version FROM profile`

// AddProfile implements [regulation.Store].
func (s *Store) AddProfile(ctx context.Context, p *profile.Profile, f issuance.Fact) error {
	written, err := s.writeProfile(ctx, addProfileSQL, p, f)
	if err == nil && !written {
		err = fault.New(fault.Conflict, "a profile with the id %s exists already", p.ID)
	}
	return err
}

var changeProfileSQL = `WITH profile AS (
	UPDATE certificate_profiles SET name = $2, description = $3, allowed_key_algorithms = $4::jsonb, max_ttl_seconds = $5,
		allowed_ekus = $6, required_san_patterns = $7, spiffe_uri_pattern = $8, allow_short_lived = $9, enabled = $10,
		lint_ruleset = $11, lint_mode = $12, lint_ignore = $13, reuse_key = $14, updated_at = $15, version = version + 1
	WHERE id = $1 AND version = $16
	RETURNING id, version
), event AS (
	` + insertEvents("profile", "id", 17) + `
)
SELECT version FROM profile`

// ChangeProfile implements [regulation.Store].
func (s *Store) ChangeProfile(ctx context.Context, p *profile.Profile, seen int64, f issuance.Fact) (bool, error) {
	return s.writeProfile(ctx, changeProfileSQL, p, f, seen)
}

func (s *Store) writeProfile(ctx context.Context, sql string, p *profile.Profile, f issuance.Fact, more ...any) (bool, error) {
	keys, err := json.Marshal(p.Keys)
	if err != nil {
		return false, fmt.Errorf("encode the keys of profile %s: %w", p.ID, err)
	}
	list := func(s []string) []string { return append([]string{}, s...) }
	args := append([]any{
		p.ID, p.Name, p.Description, string(keys), int64(p.MaxTTL / time.Second), p.EKUs, list(p.RequiredSANs), p.SPIFFE,
		p.AllowShortLived, p.Enabled, p.LintRuleset, p.LintMode, list(p.LintIgnore), p.ReuseKey, f.At,
	}, more...)
	revision, err := s.writeRecord(ctx, sql, p.ID, f, args)
	if revision > 0 {
		p.Revision = revision
	}
	return revision > 0, err
}

// writeRecord runs a statement that writes a record and tells of it; its arguments are those given and the event's. It
// returns the new revision, zero if the row was not there to be written.
func (s *Store) writeRecord(ctx context.Context, sql, id string, f issuance.Fact, args []any) (revision int64, err error) {
	var told events
	if err := told.add(id, f, 0); err != nil {
		return 0, err
	}
	eventArgs := told.args()
	err = s.pool.QueryRow(ctx, sql, append(args, eventArgs...)...).Scan(&revision)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, pg.Fault(fmt.Errorf("write %s: %w", id, err))
	}
	s.hooks.Told()
	return revision, nil
}

const (
	usersShown   = 10
	usersCounted = 10_000
)

const profileUsersSQL = `SELECT id FROM certificates WHERE certificate_profile_id = $1 AND status <> 'Archived'
ORDER BY created_at, id LIMIT $2`

var removeProfileSQL = `WITH profile AS (
	DELETE FROM certificate_profiles WHERE id = $1 RETURNING id, version + 1 AS version
)
` + insertEvents("profile", "id", 2)

// RemoveProfile implements [regulation.Store].
func (s *Store) RemoveProfile(ctx context.Context, id string, f issuance.Fact) error {
	var told events
	if err := told.add(id, f, 0); err != nil {
		return err
	}
	eventArgs := told.args()
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		// Whoever is about to use it holds a share of this lock, so that it is seen by the next statement.
		var locked string
		err := tx.QueryRow(ctx, `SELECT id FROM certificate_profiles WHERE id = $1 FOR UPDATE`, id).Scan(&locked)
		if errors.Is(err, pgx.ErrNoRows) {
			return fault.New(fault.NotFound, "there is no profile %s", id)
		}
		if err != nil {
			return fmt.Errorf("lock profile %s: %w", id, err)
		}
		rows, err := tx.Query(ctx, profileUsersSQL, id, usersCounted+1)
		if err != nil {
			return fmt.Errorf("look for certificates of profile %s: %w", id, err)
		}
		users, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("look for certificates of profile %s: %w", id, err)
		}
		if len(users) > 0 {
			return inUse("profile "+id, users)
		}
		if _, err := tx.Exec(ctx, removeProfileSQL, append([]any{id}, eventArgs...)...); err != nil {
			return fmt.Errorf("remove profile %s: %w", id, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.hooks.Told()
	return nil
}

// inUse is the refusal to remove what certificates use: it says how many, and names the first of them.
func inUse(what string, users []string) error {
	number := fmt.Sprint(len(users))
	if len(users) > usersCounted {
		number = fmt.Sprintf("more than %d", usersCounted)
	}
	shown := users[:min(len(users), usersShown)]
	f := fault.New(fault.Conflict, "%s is used by %s certificates: %s", what, number, strings.Join(shown, ", "))
	if len(users) == 1 {
		f = fault.New(fault.Conflict, "%s is used by certificate %s", what, users[0])
	}
	for _, id := range shown {
		f.Fields = append(f.Fields, fault.Field{Name: "certificates", Reason: id})
	}
	return f
}
