package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/search"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// ListedJob is a job as it is shown.
type ListedJob struct {
	rollout.Job
	ScheduledAt time.Time
	CreatedAt   time.Time
}

// JobFilter limits a list of jobs; empty fields limit nothing.
type JobFilter struct {
	Status, Type, CertificateID string
	// CreatedAfter and CreatedBefore limit nothing if they are nil.
	CreatedAfter, CreatedBefore *time.Time
	Search                      search.Query
	// Scope hides jobs of certificates that the caller may not see.
	Scope authn.Scope
	// Behind is the last job of the page before: its time and id; zero for the first.
	Behind   time.Time
	BehindID string
}

const listColumns = jobColumns + `, j.scheduled_at, j.created_at`

func scanListed(row pgx.CollectableRow) (ListedJob, error) {
	var l ListedJob
	var due, started, completed *time.Time
	j := &l.Job
	err := row.Scan(&j.ID, &j.Type, &j.CertificateID, &j.VersionID, &j.TargetID, &j.AgentID, &j.Fingerprint, &j.Status,
		&j.Attempts, &j.MaxAttempts, &j.LastError, &due, &started, &completed, &j.Revision,
		&j.Correlation, &j.TraceParent, &l.ScheduledAt, &l.CreatedAt)
	j.NextActionAt, j.StartedAt, j.CompletedAt = orZero(due), orZero(started), orZero(completed)
	return l, err
}

// condition builds the WHERE of a list. Only what is asked for stands in it, so that
// the planner can choose the index of that.
type condition struct {
	parts []string
	args  []any
}

func (c *condition) add(sql string, args ...any) {
	for _, a := range args {
		c.args = append(c.args, a)
		sql = strings.Replace(sql, "?", fmt.Sprintf("$%d", len(c.args)), 1)
	}
	c.parts = append(c.parts, sql)
}

func (c *condition) String() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

func (f JobFilter) condition() *condition {
	var c condition
	if f.Status != "" {
		c.add("j.status = ?", f.Status)
	}
	if f.Type != "" {
		c.add("j.type = ?", f.Type)
	}
	if f.CertificateID != "" {
		c.add("j.certificate_id = ?", f.CertificateID)
	}
	if f.CreatedAfter != nil {
		c.add("j.created_at > ?", *f.CreatedAfter)
	}
	if f.CreatedBefore != nil {
		c.add("j.created_at < ?", *f.CreatedBefore)
	}
	c.search(f.Search)
	c.scope(f.Scope)
	return &c
}

// scope admits what belongs to certificates within the scope. A certificate whose
// team, environment or issuer is not known is within an unlimited scope only; profiles
// are never known here.
func (c *condition) scope(s authn.Scope) {
	if s.Unlimited() {
		return
	}
	var of []string
	for _, dimension := range []struct {
		column string
		ids    []string
	}{{"c.team_id", s.Teams}, {"c.environment", s.Environments}, {"c.issuer_id", s.Issuers}, {"''", s.Profiles}} {
		if dimension.ids != nil {
			c.args = append(c.args, dimension.ids)
			of = append(of, fmt.Sprintf("%[1]s <> '' AND %[1]s = ANY($%[2]d)", dimension.column, len(c.args)))
		}
	}
	c.parts = append(c.parts, "EXISTS (SELECT FROM certificates c WHERE c.id = j.certificate_id AND "+strings.Join(of, " AND ")+")")
}

// planned has the server plan a query for the values at hand. A plan that is kept for any value walks the whole table for
// what is rare.
const planned = pgx.QueryExecModeCacheDescribe

// ListJobs reads jobs, newest first, and counts all that the filter admits.
func ListJobs(ctx context.Context, db Querier, totals *pg.Totals, f JobFilter, limit, offset int) (jobs []ListedJob, total int64, err error) {
	where := f.condition()
	total, err = totals.Count(ctx, db, "jobs j", where.String(), append([]any{planned}, where.args...))
	if err != nil {
		return nil, 0, err
	}
	if f.BehindID != "" {
		where.add("(j.created_at, j.id) < (?, ?)", f.Behind, f.BehindID)
	}
	args := append(append([]any{planned}, where.args...), limit, offset)
	sql := fmt.Sprintf(`SELECT %s FROM jobs j%s
ORDER BY j.created_at DESC, j.id DESC LIMIT $%d OFFSET $%d`, listColumns, where, len(args)-2, len(args)-1)
	if jobs, err = collect(ctx, db, scanListed, sql, args...); err != nil {
		return nil, 0, fmt.Errorf("list jobs: %w", err)
	}
	return jobs, total, nil
}

// ReadJob reads a job. It is NotFound if there is none within the scope.
func ReadJob(ctx context.Context, db Querier, id string, scope authn.Scope) (ListedJob, error) {
	var where condition
	where.add("j.id = ?", id)
	where.scope(scope)
	rows, err := db.Query(ctx, `SELECT `+listColumns+` FROM jobs j`+where.String(), where.args...)
	if err != nil {
		return ListedJob{}, fmt.Errorf("read job: %w", err)
	}
	j, err := pgx.CollectExactlyOneRow(rows, scanListed)
	if errors.Is(err, pgx.ErrNoRows) {
		return j, fault.New(fault.NotFound, "there is no job %s", id)
	}
	if err != nil {
		return j, fmt.Errorf("read job: %w", err)
	}
	return j, nil
}
