package view

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
)

// Store keeps views in the gateway's schema. It is safe for concurrent use.
type Store struct {
	Pool  *pgxpool.Pool
	Clock clock.Clock
}

const columns = `id, principal_id, name, resource, query, shared, revision, created_at, updated_at`

func scan(row pgx.CollectableRow) (v View, err error) {
	err = row.Scan(&v.ID, &v.Principal, &v.Name, &v.Resource, &v.Query, &v.Shared, &v.Revision, &v.CreatedAt, &v.UpdatedAt)
	return v, err
}

// Asked is which views are listed: those behind a cursor if there is one, else a page.
type Asked struct {
	Resource     *string
	Size, Offset int
	Behind       *page.Cursor
}

const (
	countViews = `
SELECT (SELECT count(*) FROM saved_views WHERE principal_id = $1 AND ($2::text IS NULL OR resource = $2))
     + (SELECT count(*) FROM saved_views WHERE shared AND principal_id <> $1 AND ($2::text IS NULL OR resource = $2))`

	// Each half reads its own index no further than the page reaches.
	listViews = `
SELECT ` + columns + ` FROM (
    (SELECT ` + columns + ` FROM saved_views
     WHERE principal_id = $1 AND ($2::text IS NULL OR resource = $2) AND (created_at, id) < ($3, $4)
     ORDER BY created_at DESC, id DESC LIMIT $5::bigint + $6::bigint)
    UNION ALL
    (SELECT ` + columns + ` FROM saved_views
     WHERE shared AND principal_id <> $1 AND ($2::text IS NULL OR resource = $2) AND (created_at, id) < ($3, $4)
     ORDER BY created_at DESC, id DESC LIMIT $5::bigint + $6::bigint)) AS v
ORDER BY created_at DESC, id DESC LIMIT $5::bigint OFFSET $6::bigint`
)

// endOfTime is behind every view that there will be.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// List returns what a principal sees, newest first, one more than asked for if there are
// more, and how many there are in all.
func (s *Store) List(ctx context.Context, principal string, a Asked) (views []View, total int64, err error) {
	before, behind := endOfTime, ""
	if a.Behind != nil {
		if before, err = a.Behind.Time(); err != nil {
			return nil, 0, err
		}
		behind, a.Offset = a.Behind.ID, 0
	}
	if err := s.Pool.QueryRow(ctx, countViews, principal, a.Resource).Scan(&total); err != nil {
		return nil, 0, fmt.Errorf("count views: %w", pg.Fault(err))
	}
	rows, err := s.Pool.Query(ctx, listViews, principal, a.Resource, before, behind, a.Size+1, a.Offset)
	if err != nil {
		return nil, 0, fmt.Errorf("list views: %w", pg.Fault(err))
	}
	if views, err = pgx.CollectRows(rows, scan); err != nil {
		return nil, 0, fmt.Errorf("list views: %w", pg.Fault(err))
	}
	return views, total, nil
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const getView = `SELECT ` + columns + ` FROM saved_views WHERE id = $1 AND (principal_id = $2 OR shared)`

func get(ctx context.Context, q querier, principal, viewID, lock string) (View, error) {
	if !id.Valid(viewID) {
		return View{}, notFound(viewID)
	}
	rows, err := q.Query(ctx, getView+lock, viewID, principal)
	if err != nil {
		return View{}, fmt.Errorf("read view %s: %w", viewID, pg.Fault(err))
	}
	v, err := pgx.CollectExactlyOneRow(rows, scan)
	if pg.IsNotFound(err) {
		return View{}, notFound(viewID)
	}
	if err != nil {
		return View{}, fmt.Errorf("read view %s: %w", viewID, pg.Fault(err))
	}
	return v, nil
}

func notFound(viewID string) error { return fault.New(fault.NotFound, "there is no view %q", viewID) }

// Get returns a view that a principal sees.
func (s *Store) Get(ctx context.Context, principal, viewID string) (View, error) {
	return get(ctx, s.Pool, principal, viewID, "")
}

const insertView = `
INSERT INTO saved_views (id, principal_id, name, resource, query, shared, created_at, updated_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $7
WHERE (SELECT count(*) FROM saved_views WHERE principal_id = $2) < $8`

// Create keeps a view of a principal.
func (s *Store) Create(ctx context.Context, principal string, v View) (View, error) {
	if err := check(v); err != nil {
		return View{}, err
	}
	now := s.Clock.Now()
	v.ID, v.Principal, v.Revision, v.CreatedAt, v.UpdatedAt = id.New("view-"), principal, 1, now, now
	tag, err := s.Pool.Exec(ctx, insertView, v.ID, principal, v.Name, v.Resource, v.Query, v.Shared, now, maxOwn)
	if err != nil {
		return View{}, failed("keep", v, err)
	}
	if tag.RowsAffected() == 0 {
		return View{}, fault.New(fault.Conflict, "you have %d views, which is as many as are kept; remove some", maxOwn)
	}
	return v, nil
}

func failed(what string, v View, err error) error {
	if pg.IsUnique(err) {
		return fault.New(fault.Conflict, "you have a view of %s named %q already", v.Resource, v.Name)
	}
	return fmt.Errorf("%s view %s: %w", what, v.ID, pg.Fault(err))
}

const updateView = `
UPDATE saved_views SET name = $2, resource = $3, query = $4, shared = $5, revision = $6, updated_at = $7 WHERE id = $1`

// Update changes a view of the principal's own.
func (s *Store) Update(ctx context.Context, principal, viewID string, change func(*View) error) (v View, err error) {
	err = pg.InTx(ctx, s.Pool, func(tx pgx.Tx) error {
		if v, err = own(ctx, tx, principal, viewID); err != nil {
			return err
		}
		if err := change(&v); err != nil {
			return err
		}
		if err := check(v); err != nil {
			return err
		}
		v.Revision, v.UpdatedAt = v.Revision+1, s.Clock.Now()
		if _, err := tx.Exec(ctx, updateView, v.ID, v.Name, v.Resource, v.Query, v.Shared, v.Revision, v.UpdatedAt); err != nil {
			return failed("change", v, err)
		}
		return nil
	})
	return v, err
}

// own is a view that a principal may change, locked.
func own(ctx context.Context, tx pgx.Tx, principal, viewID string) (View, error) {
	v, err := get(ctx, tx, principal, viewID, " FOR UPDATE")
	if err == nil && v.Principal != principal {
		err = fault.New(fault.Forbidden, "the view %q is shared with you; only who made it may change it", v.Name)
	}
	return v, err
}

// Delete removes a view of the principal's own.
func (s *Store) Delete(ctx context.Context, principal, viewID string) error {
	return pg.InTx(ctx, s.Pool, func(tx pgx.Tx) error {
		v, err := own(ctx, tx, principal, viewID)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM saved_views WHERE id = $1`, v.ID); err != nil {
			return fmt.Errorf("remove view %s: %w", viewID, pg.Fault(err))
		}
		return nil
	})
}
