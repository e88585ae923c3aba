package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/pg"
)

// manyEvents fills the table behind the chain's back: 200,000 rows of which few are of
// one resource, one actor and one action, and those are old.
const manyEvents = `
INSERT INTO audit_events
SELECT n, 'ae-' || n, CASE WHEN n = 30 THEN 'key-rare' ELSE 'key-' || n % 3 END, 'User',
       CASE WHEN n = 30 THEN 'ca_rotated' ELSE 'api_get' END, CASE WHEN n = 30 THEN 'ca' ELSE 'api' END,
       CASE WHEN n % 50000 = 30 THEN 'mc-rare' ELSE 'mc-' || n % 5000 END, '{}', '2026-01-01Z'::timestamptz + n * interval '1 second',
       sha256(n::text::bytea)
FROM generate_series(1, 200000) n`

// second is the time of the n-th of these.
func second(n int) time.Time {
	return time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC)
}

func many(t *testing.T) (*pgxpool.Pool, *pgxpool.Conn) {
	t.Helper()
	pool := newPool(t)
	if _, err := pool.Exec(t.Context(), manyEvents); err != nil {
		t.Fatal(err)
	}
	conn := superuser(t, pool)
	if _, err := conn.Exec(t.Context(), `VACUUM ANALYZE audit_events`); err != nil {
		t.Fatal(err)
	}
	return pool, conn
}

func TestList_FindsByAnIndexWhatIsRare(t *testing.T) {
	_, conn := many(t)
	text := `actor == "key-rare" || resource_id == "mc-rare" && action in ["api_get"]`
	search, err := Search.Ask(&text, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]Filter{
		"everything":             {},
		"search":                 {Search: search},
		"resource":               {ResourceID: "mc-rare"},
		"resource and type":      {ResourceType: "api", ResourceID: "mc-rare"},
		"type":                   {ResourceType: "ca"},
		"actor":                  {Actor: "key-rare"},
		"action":                 {Action: "ca_rotated"},
		"everything, deep below": {Behind: Place{second(100), 100}},
		"resource, next page":    {ResourceID: "mc-rare", Behind: Place{second(100_000), 100_000}},
		"one actor of three":     {Actor: "key-1"},
		"long ago":               {Since: second(90), Until: second(200)},
		"since long ago":         {Since: second(90)},
		"an actor long ago":      {Actor: "key-1", Since: second(90), Until: second(200)},
		"a type before a time":   {ResourceType: "api", Until: second(500)},
		"an action of an hour":   {Action: "api_get", Since: second(50_000), Until: second(53_600)},
		"a resource of an hour":  {ResourceID: "mc-7", Since: second(50_000), Until: second(53_600)},
	} {
		f.Limit = 51
		query, args := f.listing()
		plan, pages := explain(t, conn.Conn(), query, args)
		if pages > 300 || strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s: %d pages are read\n%s", name, pages, plan)
		}
	}
}

// TestExport_WalksOnlyWhatItExports: each batch of an export goes on where the last one
// ended, through an index.
func TestExport_WalksOnlyWhatItExports(t *testing.T) {
	pool, conn := many(t)
	for name, f := range map[string]Filter{
		"everything":    {},
		"resource":      {ResourceID: "mc-rare"},
		"actor":         {Actor: "key-rare"},
		"half an hour":  {Since: second(150_000), Until: second(151_800)},
		"of all actors": {Actor: "key-1"},
		"a type's hour": {ResourceType: "api", Since: second(199_000)},
	} {
		from, to, err := bounds(t.Context(), pool, f, 200_000)
		if err != nil {
			t.Fatal(err)
		}
		query, args := f.exporting(from-1, to)
		// Each row costs the page of its predecessor, which is in memory already.
		if plan, pages := explain(t, conn.Conn(), query, args); pages > 6*exportBatch || strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s: %d pages are read\n%s", name, pages, plan)
		}
	}
	from, to, err := bounds(t.Context(), pool, Filter{Since: second(150_000), Until: second(151_800)}, 150_900)
	if err != nil || from != 150_000 || to != 150_900 {
		t.Errorf("the bounds are %d and %d, %v", from, to, err)
	}
	if from, to, err = bounds(t.Context(), pool, Filter{Since: second(300_000)}, 200_000); err != nil || from <= to {
		t.Errorf("the bounds of nothing are %d and %d, %v", from, to, err)
	}
}

// TestTotals_AreExactUpToTenThousandAndEstimatedBeyond also has the whole chain counted
// by its end.
func TestTotals_AreExactUpToTenThousandAndEstimatedBeyond(t *testing.T) {
	pool, _ := many(t)
	totals := new(pg.Totals)
	for name, c := range map[string]struct {
		f        Filter
		min, max int64
	}{
		"all":         {Filter{}, 200_000, 200_000},
		"few":         {Filter{ResourceID: "mc-7"}, 40, 40},
		"none":        {Filter{Actor: "nobody"}, 0, 0},
		"ten hundred": {Filter{Since: second(1), Until: second(10_001)}, 10_000, 10_000},
		"a third":     {Filter{Actor: "key-1"}, 50_000, 85_000},
		"again":       {Filter{Actor: "key-1"}, 50_000, 85_000},
	} {
		if n, err := Count(t.Context(), totals, pool, c.f); err != nil || n < c.min || n > c.max {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// TestList_IsPlannedForItsValues: after some calls with common values the server would
// keep one plan for all, which walks the whole chain for a rare one.
func TestList_IsPlannedForItsValues(t *testing.T) {
	pool := newPool(t)
	store(t, pool, happened("a", 3))
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	f := Filter{Actor: "key-ada", ResourceID: "mc-a-1", Limit: 10}
	for range 10 {
		if events, err := List(t.Context(), conn, f); err != nil || len(events) != 1 {
			t.Fatal(len(events), err)
		}
		if n, err := Count(t.Context(), new(pg.Totals), conn, f); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		for r, err := range Export(t.Context(), conn, f, 10) {
			if err != nil || r.ResourceID != "mc-a-1" {
				t.Fatal(r, err)
			}
		}
	}
	var kept []string
	err = conn.QueryRow(t.Context(), `SELECT array_agg(statement) FROM pg_prepared_statements WHERE statement LIKE '%resource_id = %'`).Scan(&kept)
	if err != nil || len(kept) != 1 { // this very one
		t.Errorf("prepared are %q, %v", kept, err)
	}
}

// explain runs a query for its values and returns its plan and how many pages it
// touched.
func explain(t *testing.T, conn *pgx.Conn, query string, args []any) (plan string, pages int64) {
	t.Helper()
	var doc []struct {
		Plan map[string]any
	}
	args = append([]any{planned}, args...)
	if err := conn.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+query, args...).Scan(&doc); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"Shared Hit Blocks", "Shared Read Blocks"} {
		n, _ := doc[0].Plan[field].(float64)
		pages += int64(n)
	}
	return nodes(doc[0].Plan, ""), pages
}

func nodes(plan map[string]any, indent string) string {
	kind, _ := plan["Node Type"].(string)
	index, _ := plan["Index Name"].(string)
	text := indent + kind + " " + index + "\n"
	children, _ := plan["Plans"].([]any)
	for _, c := range children {
		child, _ := c.(map[string]any)
		text += nodes(child, indent+"  ")
	}
	return text
}
