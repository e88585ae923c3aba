package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/search"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// listing is a query for one page of a list that is sorted by a column, perhaps by another, and then by id, in one
// direction, so that an index serves it.
type listing[T any] struct {
	columns, from string
	conditions    conditions
	sort, id      string
	// within is the other column, empty for none.
	within     string
	descending bool
	page       Page
	scan       func(pgx.CollectableRow) (T, error)
	// key is what a cursor's key is in the columns before id; nil is its time.
	key   func(page.Cursor) ([]any, error)
	place func(*T) page.Cursor
}

func listPage[T any](ctx context.Context, s *Store, l listing[T]) (List[T], error) {
	counted := l.conditions
	counted.args = counted.args[:len(counted.args):len(counted.args)]
	counted.parts = counted.parts[:len(counted.parts):len(counted.parts)]
	c := counted
	columns := []string{l.sort, l.id}
	if l.within != "" {
		columns = []string{l.sort, l.within, l.id}
	}
	offset := 0
	if cur := l.page.Cursor; cur != nil {
		key, err := l.cursorKey(*cur)
		if err != nil {
			return List[T]{}, err
		}
		c.behind(columns, l.descending, append(key, cur.ID))
	} else {
		offset = (l.page.Number - 1) * l.page.Size
	}
	direction := ""
	if l.descending {
		direction = " DESC"
	}
	// One row more than asked for tells whether there is a next page.
	sql := "SELECT " + l.columns + " FROM " + l.from + c.where() + " ORDER BY " + strings.Join(columns, direction+", ") + direction +
		" LIMIT " + strconv.Itoa(l.page.Size+1)
	if offset > 0 {
		// As an argument: else each page would be a statement of its own to prepare.
		sql += " OFFSET " + c.arg(offset)
	}
	rows, err := s.pool.Query(ctx, sql, counted.planned(c.args)...)
	if err != nil {
		return List[T]{}, pg.Fault(fmt.Errorf("list %s: %w", l.from, err))
	}
	out := List[T]{Rows: make([]T, 0, min(l.page.Size+1, page.DefaultSize+1))}
	if out.Rows, err = pgx.AppendRows(out.Rows, rows, l.scan); err != nil {
		return List[T]{}, pg.Fault(fmt.Errorf("list %s: %w", l.from, err))
	}
	if len(out.Rows) > l.page.Size {
		out.Rows = out.Rows[:l.page.Size]
		next := l.place(&out.Rows[l.page.Size-1])
		out.Next = &next
	} else if l.page.Cursor == nil && (len(out.Rows) > 0 || offset == 0) {
		out.Total = int64(offset + len(out.Rows))
		return out, nil
	}
	out.Total, err = s.totals.Count(ctx, s.pool, l.from, counted.where(), counted.planned(counted.args))
	return out, err
}

func (l *listing[T]) cursorKey(cur page.Cursor) ([]any, error) {
	if l.key != nil {
		return l.key(cur)
	}
	at, err := cur.Time()
	return []any{at}, err
}

// JobQuery asks for a page of jobs, newest first. Nil filters ask for nothing.
type JobQuery struct {
	Scope                       authn.Scope
	Status, Type, CertificateID *string
	CreatedAfter, CreatedBefore *time.Time
	Search                      search.Query
	Page                        Page
}

const jobColumns = `j.id, j.type, j.certificate_id, j.status, j.attempts, j.max_attempts, j.agent_id, j.version_id, j.last_error,
	COALESCE(j.next_action_at, j.started_at, j.created_at), j.created_at, j.started_at, j.completed_at, j.renewal_policy_id,
	j.requested_by, j.approved_by, j.approved_at, j.rejected_by, j.approval_reason`

func scanJob(row pgx.CollectableRow) (issuance.Job, error) {
	var j issuance.Job
	var started, completed, approved *time.Time
	err := row.Scan(&j.ID, &j.Type, &j.CertificateID, &j.Status, &j.Attempts, &j.MaxAttempts, &j.AgentID, &j.VersionID, &j.LastError,
		&j.NextActionAt, &j.CreatedAt, &started, &completed, &j.PolicyID,
		&j.Origin.Actor, &j.ApprovedBy, &approved, &j.RejectedBy, &j.ApprovalReason)
	j.StartedAt, j.CompletedAt, j.ApprovedAt = orZero(started), orZero(completed), orZero(approved)
	return j, err
}

// Jobs returns a page of jobs. NextActionAt of a job that nothing waits for is when it was last begun.
func (s *Store) Jobs(ctx context.Context, q JobQuery) (List[issuance.Job], error) {
	var c conditions
	c.equal("j.status", q.Status)
	c.equal("j.type", q.Type)
	c.equal("j.certificate_id", q.CertificateID)
	c.moment("j.created_at >", q.CreatedAfter)
	c.moment("j.created_at <", q.CreatedBefore)
	c.search(q.Search)
	from := "jobs j"
	if !q.Scope.Unlimited() {
		from = "jobs j JOIN certificates c ON c.id = j.certificate_id"
		c.scope(q.Scope)
	}
	return listPage(ctx, s, listing[issuance.Job]{
		columns: jobColumns, from: from, conditions: c, sort: "j.created_at", id: "j.id", descending: true,
		page: q.Page, scan: scanJob, place: func(row *issuance.Job) page.Cursor { return page.At(row.CreatedAt, row.ID) },
	})
}

// JobByID returns a job as lists show it, NotFound if there is none within the scope.
func (s *Store) JobByID(ctx context.Context, scope authn.Scope, id string) (issuance.Job, error) {
	c := conditions{args: []any{id}}
	c.scope(scope)
	rows, err := s.pool.Query(ctx, `SELECT `+jobColumns+` FROM jobs j JOIN certificates c ON c.id = j.certificate_id
		WHERE j.id = $1`+c.and(), c.args...)
	if err != nil {
		return issuance.Job{}, pg.Fault(fmt.Errorf("read job %s: %w", id, err))
	}
	j, err := pgx.CollectExactlyOneRow(rows, scanJob)
	if errors.Is(err, pgx.ErrNoRows) {
		return j, fault.New(fault.NotFound, "there is no job %s", id)
	}
	return j, pg.Fault(err)
}
