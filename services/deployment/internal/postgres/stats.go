package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
)

// Figures are how many agents there are, and how many jobs within a scope.
type Figures struct {
	// Agents by status, Jobs by status. A status that none has is not there.
	Agents, Jobs map[string]int64
	// At is when this was counted.
	At time.Time
}

// CountFigures counts agents, which serve all teams, and jobs. Agents are few; jobs are
// counted from an index of which little is read.
func CountFigures(ctx context.Context, db Querier, scope authn.Scope, now time.Time) (Figures, error) {
	f := Figures{At: now}
	var err error
	if f.Agents, err = tally(ctx, db, `SELECT status, count(*) FROM agents GROUP BY status`); err != nil {
		return f, fmt.Errorf("count agents: %w", err)
	}
	var where condition
	where.scope(scope)
	if f.Jobs, err = tally(ctx, db, `SELECT j.status, count(*) FROM jobs j`+where.String()+` GROUP BY j.status`, where.args...); err != nil {
		return f, fmt.Errorf("count jobs: %w", err)
	}
	return f, nil
}

func tally(ctx context.Context, db Querier, sql string, args ...any) (map[string]int64, error) {
	rows, err := db.Query(ctx, sql, append([]any{afresh}, args...)...)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	var status string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&status, &n}, func() error {
		out[status] = n
		return nil
	})
	return out, err
}

// Day is how many jobs were completed, and how many failed, on one day, in UTC.
type Day struct {
	Date              string
	Completed, Failed int64
}

// CountEndings counts jobs by the day on which they were completed or failed, for as many
// days as are asked for, today last.
func CountEndings(ctx context.Context, db Querier, scope authn.Scope, days int, now time.Time) ([]Day, error) {
	first := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1-days)
	var where condition
	where.add("j.completed_at >= ?", first)
	where.add("j.completed_at < ?", first.AddDate(0, 0, days))
	where.add("j.status IN ('Completed', 'Failed')")
	where.scope(scope)
	rows, err := db.Query(ctx, `SELECT (j.completed_at AT TIME ZONE 'UTC')::date,
	count(*) FILTER (WHERE j.status = 'Completed'), count(*) FILTER (WHERE j.status = 'Failed')
FROM jobs j`+where.String()+` GROUP BY 1`, append([]any{afresh}, where.args...)...)
	if err != nil {
		return nil, fmt.Errorf("count jobs by day: %w", err)
	}
	out := make([]Day, days)
	for i := range out {
		out[i].Date = first.AddDate(0, 0, i).Format(time.DateOnly)
	}
	var day time.Time
	var completed, failed int64
	_, err = pgx.ForEachRow(rows, []any{&day, &completed, &failed}, func() error {
		at := &out[int(day.Sub(first)/(24*time.Hour))]
		at.Completed, at.Failed = completed, failed
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count jobs by day: %w", err)
	}
	return out, nil
}
