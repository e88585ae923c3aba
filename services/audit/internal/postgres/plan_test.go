package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// manyEvents fills the table behind the chain's back: 200,000 rows of which few are of
// one resource, one actor and one action, and those are old.
const manyEvents = `
INSERT INTO audit_events
SELECT n, 'ae-' || n, CASE WHEN n = 30 THEN 'key-rare' ELSE 'key-' || n % 3 END, 'User',
       CASE WHEN n = 30 THEN 'ca_rotated' ELSE 'api_get' END, CASE WHEN n = 30 THEN 'ca' ELSE 'api' END,
       CASE WHEN n % 50000 = 30 THEN 'mc-rare' ELSE 'mc-' || n % 5000 END, '{}', now(), sha256(n::text::bytea)
FROM generate_series(1, 200000) n`

func TestList_FindsByAnIndexWhatIsRare(t *testing.T) {
	pool := newPool(t)
	if _, err := pool.Exec(t.Context(), manyEvents); err != nil {
		t.Fatal(err)
	}
	conn := superuser(t, pool)
	if _, err := conn.Exec(t.Context(), `ANALYZE audit_events`); err != nil {
		t.Fatal(err)
	}
	text := `actor == "key-rare" || resource_id == "mc-rare" && action in ["api_get"]`
	search, err := Search.Ask(&text, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]Filter{
		"search":                 {Search: search},
		"resource":               {ResourceID: "mc-rare"},
		"resource and type":      {ResourceType: "api", ResourceID: "mc-rare"},
		"type":                   {ResourceType: "ca"},
		"actor":                  {Actor: "key-rare"},
		"action":                 {Action: "ca_rotated"},
		"everything, deep below": {Before: 100},
		"resource, next page":    {ResourceID: "mc-rare", Before: 100_000},
		"one actor of three":     {Actor: "key-1"},
	} {
		f.Limit = 51
		query, args := f.listing()
		if plan, pages := explain(t, conn.Conn(), query, args); pages > 300 || strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s: %d pages are read\n%s", name, pages, plan)
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
		if n, err := Count(t.Context(), conn, f); err != nil || n != 1 {
			t.Fatal(n, err)
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
