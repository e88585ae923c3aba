package postgres

import (
	"strings"
	"testing"

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

// TestList_FindsByAnIndexWhatIsRare holds for the plan that is made for any value (a
// prepared statement's generic one) as for that of the value.
func TestList_FindsByAnIndexWhatIsRare(t *testing.T) {
	pool := newPool(t)
	if _, err := pool.Exec(t.Context(), manyEvents); err != nil {
		t.Fatal(err)
	}
	conn := superuser(t, pool)
	if _, err := conn.Exec(t.Context(), `ANALYZE audit_events`); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]Filter{
		"resource":               {ResourceID: "mc-rare"},
		"resource and type":      {ResourceType: "api", ResourceID: "mc-rare"},
		"type":                   {ResourceType: "ca"},
		"actor":                  {Actor: "key-rare"},
		"action":                 {Action: "ca_rotated"},
		"everything, deep below": {Before: 100},
		"resource, next page":    {ResourceID: "mc-rare", Before: 100_000},
		"one actor of three":     {Actor: "key-1"},
	} {
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			f.Limit = 51
			query, args := f.listing()
			rows, buffers := explain(t, conn.Conn(), mode, query, args)
			if buffers > 300 || strings.Contains(rows, "Seq Scan") {
				t.Errorf("%s, %s: %d pages are read\n%s", name, mode, buffers, rows)
			}
		}
	}
}

// explain runs a query as a prepared statement and returns its plan and how many pages
// it touched.
func explain(t *testing.T, conn *pgx.Conn, mode, query string, args []any) (plan string, pages int64) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), `SET plan_cache_mode = `+mode); err != nil {
		t.Fatal(err)
	}
	var doc []struct {
		Plan map[string]any
	}
	err := conn.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+query, args...).Scan(&doc)
	if err != nil {
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
