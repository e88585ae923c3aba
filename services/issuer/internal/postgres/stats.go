package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fresh"
	"github.com/certctl/certctl/libs/pg"
)

// Figures are counted, not kept up. A counter that every change maintains would be one
// row for which all changes queue, in the hot path of issuing. Counting reads narrow
// indexes, a hundred milliseconds of one core for a million rows, and is done at most
// once in 1.5 s however many look, and not at all while nobody does. By day it is done
// less often: what is asked for is the shape of a curve.
var (
	figuresAge = fresh.Limits{Fresh: 1500 * time.Millisecond, Old: 2 * time.Second}
	byDayAge   = fresh.Limits{Fresh: 5 * time.Second, Old: 10 * time.Second}
)

// figures are what was counted lately, by scope.
type figures struct {
	now   fresh.Answers[string, Figures]
	byDay fresh.Answers[string, []Day]
}

// Figures are how many certificates and jobs there are within a scope.
type Figures struct {
	// Certificates by status. A status that none has is not there.
	Certificates map[string]int64
	// Expiring are those that expire within 30 days, Expired those that have; neither
	// counts what is revoked or archived.
	Expiring, Expired int64
	// Jobs by type and status.
	Jobs map[JobKind]int64
	// At is when this was counted.
	At time.Time
}

// JobKind is what jobs are counted by.
type JobKind struct{ Type, Status string }

// Total is how many certificates there are.
func (f *Figures) Total() (n int64) {
	for _, of := range f.Certificates {
		n += of
	}
	return n
}

// JobsIn is how many jobs have a status, of one type or of any if kind is empty.
func (f *Figures) JobsIn(kind, status string) (n int64) {
	for k, of := range f.Jobs {
		if k.Status == status && (kind == "" || k.Type == kind) {
			n += of
		}
	}
	return n
}

// Day is what was counted of one day, in UTC.
type Day struct {
	Date string
	// Count is how many; of jobs, how many were completed, and Failed how many failed.
	Count, Failed int64
}

// afresh has a statement planned for its values: a plan for any range of time does not
// trust an index with it.
const afresh = pgx.QueryExecModeCacheDescribe

// Figures counts certificates and jobs.
func (s *Store) Figures(ctx context.Context, scope authn.Scope) (Figures, error) {
	return s.figures.now.Get(ctx, key(scope, "", 0), figuresAge, func(ctx context.Context) (Figures, error) {
		f := Figures{Certificates: map[string]int64{}, Jobs: map[JobKind]int64{}, At: time.Now().UTC()}
		err := s.countCertificates(ctx, scope, &f)
		if err == nil {
			err = s.countJobs(ctx, scope, &f)
		}
		return f, err
	})
}

func (s *Store) countCertificates(ctx context.Context, scope authn.Scope, f *Figures) error {
	c := conditions{}
	c.scope(scope)
	rows, err := s.pool.Query(ctx, `SELECT c.status, count(*) FROM certificates c`+c.where()+` GROUP BY c.status`, append([]any{afresh}, c.args...)...)
	if err != nil {
		return pg.Fault(fmt.Errorf("count certificates: %w", err))
	}
	var status string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error {
		f.Certificates[status] = n
		return nil
	}); err != nil {
		return pg.Fault(fmt.Errorf("count certificates: %w", err))
	}
	return s.countExpiries(ctx, scope, f)
}

// countExpiries reads, of those whose status says nothing of it, only the few whose time
// is near or past. A certificate that was not issued yet expires in the year 1.
func (s *Store) countExpiries(ctx context.Context, scope authn.Scope, f *Figures) error {
	c := conditions{}
	now := c.arg(f.At)
	c.parts = append(c.parts,
		"c.status IN ('Pending', 'Active', 'Expiring', 'RenewalInProgress', 'Failed')",
		"c.expires_at > "+c.arg(time.Time{}.AddDate(0, 0, 1)), "c.expires_at <= "+c.arg(f.At.AddDate(0, 0, 30)))
	c.scope(scope)
	err := s.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE c.expires_at > `+now+`), count(*) FILTER (WHERE c.expires_at <= `+now+`)
FROM certificates c`+c.where(), append([]any{afresh}, c.args...)...).Scan(&f.Expiring, &f.Expired)
	f.Expired += f.Certificates["Expired"]
	return pg.Fault(err)
}

func (s *Store) countJobs(ctx context.Context, scope authn.Scope, f *Figures) error {
	c := conditions{}
	c.scope(scope)
	rows, err := s.pool.Query(ctx, `SELECT j.type, j.status, count(*) FROM `+ofCertificates("jobs j", "j", scope)+c.where()+` GROUP BY j.type, j.status`,
		append([]any{afresh}, c.args...)...)
	if err != nil {
		return pg.Fault(fmt.Errorf("count jobs: %w", err))
	}
	var k JobKind
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&k.Type, &k.Status, &n}, func() error {
		f.Jobs[k] = n
		return nil
	})
	return pg.Fault(err)
}

// ofCertificates joins the certificates to a table if a scope asks about them.
func ofCertificates(table, alias string, scope authn.Scope) string {
	if scope.Unlimited() {
		return table
	}
	return table + " JOIN certificates c ON c.id = " + alias + ".certificate_id"
}

// Expirations counts certificates by the day on which they expire, from today on.
func (s *Store) Expirations(ctx context.Context, scope authn.Scope, days int) ([]Day, error) {
	today := today()
	return s.daily(ctx, scope, "expirations", days, today, series{
		from: "certificates c", at: "c.expires_at", failed: "0",
		// Named one by one, for an index begins with the status.
		only: "c.status IN ('Pending', 'Active', 'Expiring', 'Expired', 'RenewalInProgress', 'Failed')",
	})
}

// Endings counts jobs by the day on which they were completed or failed, today last.
func (s *Store) Endings(ctx context.Context, scope authn.Scope, days int) ([]Day, error) {
	return s.daily(ctx, scope, "endings", days, today().AddDate(0, 0, 1-days), series{
		from: ofCertificates("jobs j", "j", scope), at: "j.completed_at", failed: "count(*) FILTER (WHERE j.status = 'Failed')",
		only: "j.status IN ('Completed', 'Failed')",
	})
}

// Issuances counts versions by the day on which they were issued, today last.
func (s *Store) Issuances(ctx context.Context, scope authn.Scope, days int) ([]Day, error) {
	return s.daily(ctx, scope, "issuances", days, today().AddDate(0, 0, 1-days), series{
		from: ofCertificates("certificate_versions v", "v", scope), at: "v.created_at", failed: "0", only: "NOT v.imported",
	})
}

func today() time.Time { return time.Now().UTC().Truncate(24 * time.Hour) }

// series is what is counted by day.
type series struct{ from, at, failed, only string }

func (s *Store) daily(ctx context.Context, scope authn.Scope, name string, days int, first time.Time, of series) ([]Day, error) {
	return s.figures.byDay.Get(ctx, key(scope, name, days), byDayAge, func(ctx context.Context) ([]Day, error) {
		c := conditions{}
		c.parts = append(c.parts, of.at+" >= "+c.arg(first), of.at+" < "+c.arg(first.AddDate(0, 0, days)))
		if of.only != "" {
			c.parts = append(c.parts, of.only)
		}
		c.scope(scope)
		rows, err := s.pool.Query(ctx, fmt.Sprintf(`SELECT (%[1]s AT TIME ZONE 'UTC')::date, count(*), %[2]s FROM %[3]s%[4]s GROUP BY 1`,
			of.at, of.failed, of.from, c.where()), append([]any{afresh}, c.args...)...)
		if err != nil {
			return nil, pg.Fault(fmt.Errorf("count %s by day: %w", name, err))
		}
		out := make([]Day, days)
		for i := range out {
			out[i].Date = first.AddDate(0, 0, i).Format(time.DateOnly)
		}
		var day time.Time
		var n, failed int64
		_, err = pgx.ForEachRow(rows, []any{&day, &n, &failed}, func() error {
			at := &out[int(day.Sub(first)/(24*time.Hour))]
			at.Count, at.Failed = n-failed, failed
			return nil
		})
		return out, pg.Fault(err)
	})
}

// key is what figures of a scope are remembered by.
func key(scope authn.Scope, name string, days int) string {
	text, err := json.Marshal(scope)
	if err != nil {
		panic("postgres: a scope always encodes: " + err.Error())
	}
	return fmt.Sprintf("%s %d %s", name, days, text)
}
