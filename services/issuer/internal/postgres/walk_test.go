package postgres_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

var sorts = []postgres.Sort{
	postgres.ByCreation, postgres.ByExpiry, postgres.ByUpdate, postgres.ByCommonName, postgres.ByName, postgres.ByStatus,
	postgres.ByEnvironment,
}

// draw is a row with few values in each column, so that many are equal.
func draw(t *rapid.T, id string) []any {
	word := rapid.SampledFrom([]string{"", "a", "B", "b", "ä", "a b", "a-b", "zz"})
	at := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Date(2026, 1, 1, 0, 0, rapid.IntRange(0, 2).Draw(t, "s"), rapid.SampledFrom([]int{0, 1000, 999999000}).Draw(t, "ns"), time.UTC)
	})
	expires := at.Draw(t, "expires")
	if rapid.Bool().Draw(t, "never issued") {
		expires = time.Time{}
	}
	return []any{
		id, word.Draw(t, "name"), word.Draw(t, "common name"), word.Draw(t, "environment"),
		string(rapid.SampledFrom(issuance.CertificateStatuses).Draw(t, "status")), expires, at.Draw(t, "created"), at.Draw(t, "updated"),
	}
}

const insertRow = `INSERT INTO issuer.certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id,
	status, expires_at, created_at, updated_at)
VALUES ($1, $2, $3, '{x}', $4, 'o-default', 't-default', 'iss-local', 'rp-default', $5, $6, $7, $8)`

// However a list is sorted, and whatever comes meanwhile, who follows its cursors sees each row that was there exactly
// once, in order, and no row twice.
func TestCursor_ShowsEachRowOnceInEveryOrderWhileRowsAreAdded(t *testing.T) {
	e := newEngine(t)
	owner := pgtest.Admin(t, e.pool)
	rapid.Check(t, func(t *rapid.T) {
		if _, err := owner.Exec(e.t.Context(), `DELETE FROM issuer.certificates`); err != nil {
			t.Fatal(err)
		}
		insert := func(prefix string, n int) {
			for i := range n {
				if _, err := owner.Exec(e.t.Context(), insertRow, draw(t, fmt.Sprintf("%s-%02d", prefix, i))...); err != nil {
					t.Fatal(err)
				}
			}
		}
		n := rapid.IntRange(0, 12).Draw(t, "rows")
		insert("old", n)
		added := 0
		for _, sort := range sorts {
			for _, descending := range []bool{false, true} {
				q := postgres.CertificateQuery{
					Sort: sort, Descending: descending,
					Page: postgres.Page{Number: 1, Size: rapid.IntRange(1, 5).Draw(t, "size")},
				}
				times := map[string]int{}
				for {
					list, err := e.store.Certificates(e.t.Context(), q)
					if err != nil {
						t.Fatal(err)
					}
					for _, c := range list.Rows {
						times[c.ID]++
					}
					if list.Next == nil {
						break
					}
					q.Page.Cursor = list.Next
					if added < 8 && rapid.Bool().Draw(t, "add") {
						insert(fmt.Sprintf("new-%d", added), 1)
						added++
					}
				}
				for id, seen := range times {
					if seen != 1 {
						t.Fatalf("%s %v: %s came %d times", sort, descending, id, seen)
					}
				}
				for i := range n {
					if id := fmt.Sprintf("old-%02d", i); times[id] != 1 {
						t.Fatalf("%s %v: %s came %d times", sort, descending, id, times[id])
					}
				}
			}
		}
	})
}

// After some calls with common values the server would keep one plan for all, which walks the whole table for a rare one.
func TestFilter_IsPlannedForItsValues(t *testing.T) {
	e := newEngine(t)
	e.fill(50)
	cfg := e.pool.Config().Copy()
	cfg.MaxConns, cfg.MinConns, cfg.MinIdleConns = 1, 0, 0
	pool := e.open(cfg)
	defer pool.Close()
	store := postgres.New(pool, postgres.Hooks{})
	for range 10 {
		q := postgres.CertificateQuery{Sort: postgres.ByExpiry, Filter: issuance.Filter{Statuses: []string{"Active"}}, Page: postgres.Page{Number: 1, Size: 5}}
		if list, err := store.Certificates(t.Context(), q); err != nil || len(list.Rows) != 5 {
			t.Fatalf("%d rows, error %v", len(list.Rows), err)
		}
	}
	var kept int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_prepared_statements WHERE generic_plans > 0 AND statement LIKE 'SELECT c.id%WHERE%'`).Scan(&kept); err != nil || kept != 0 {
		t.Errorf("%d plans are kept for any value, error %v", kept, err)
	}
}

// Pages by number, by cursor, and backwards are the same list.
func TestOrder_DescendingIsAscendingBackwards(t *testing.T) {
	e := newEngine(t)
	e.fill(300)
	for _, sort := range sorts {
		up := e.walk(postgres.CertificateQuery{Sort: sort, Page: postgres.Page{Number: 1, Size: 70}})
		down := e.walk(postgres.CertificateQuery{Sort: sort, Descending: true, Page: postgres.Page{Number: 1, Size: 90}})
		slices.Reverse(down)
		if len(up) != 300 || !slices.Equal(up, down) {
			t.Errorf("%s: %d up, %d down, equal %v", sort, len(up), len(down), slices.Equal(up, down))
		}
		page, err := e.store.Certificates(t.Context(), postgres.CertificateQuery{Sort: sort, Page: postgres.Page{Number: 3, Size: 50}})
		if err != nil || page.Rows[0].ID != up[100] {
			t.Errorf("%s: the third page begins with %+v, error %v", sort, page.Rows[0].ID, err)
		}
	}
}

// Where the ids of older rows are greater.
func TestOrder_OfEqualRowsIsThatOfTheirCreationInAStatusOrAnEnvironment(t *testing.T) {
	e := newEngine(t)
	e.fill(120)
	for sort, value := range map[postgres.Sort]func(*issuance.Certificate) string{
		postgres.ByStatus:      func(c *issuance.Certificate) string { return string(c.Status) },
		postgres.ByEnvironment: func(c *issuance.Certificate) string { return c.Environment },
	} {
		list, err := e.store.Certificates(t.Context(), postgres.CertificateQuery{Sort: sort, Page: postgres.Page{Number: 1, Size: 200}})
		if err != nil || len(list.Rows) != 120 {
			t.Fatalf("%d rows, error %v", len(list.Rows), err)
		}
		for i := range list.Rows[1:] {
			before, row := &list.Rows[i], &list.Rows[i+1]
			if value(before) > value(row) || value(before) == value(row) && before.CreatedAt.After(row.CreatedAt) {
				t.Errorf("by %s: %s comes before %s", sort, before.ID, row.ID)
			}
		}
	}
}

func (e *engine) walk(q postgres.CertificateQuery) []string {
	e.t.Helper()
	var ids []string
	for {
		list, err := e.store.Certificates(e.t.Context(), q)
		if err != nil {
			e.t.Fatal(err)
		}
		for _, c := range list.Rows {
			ids = append(ids, c.ID)
		}
		if list.Next == nil {
			return ids
		}
		q.Page.Cursor = list.Next
	}
}

func TestFilter_ByAgentFollowsTheTargets(t *testing.T) {
	e := newEngine(t)
	e.fill(20)
	owner := pgtest.Admin(t, e.pool)
	for _, sql := range []string{
		`INSERT INTO issuer.target_agents (target_id, agent_id, enabled, deleted, version, updated_at) VALUES
			('tgt-x1', 'ag-x', true, false, 1, now()), ('tgt-x2', 'ag-x', false, false, 1, now()),
			('tgt-x3', 'ag-x', true, true, 1, now()), ('tgt-x4', 'ag-y', true, false, 1, now())`,
		`INSERT INTO issuer.certificate_targets (certificate_id, target_id, position) VALUES
			('mc-1', 'tgt-x1', 2), ('mc-1', 'tgt-x2', 3), ('mc-2', 'tgt-x2', 2), ('mc-3', 'tgt-x3', 2), ('mc-4', 'tgt-x4', 2)`,
	} {
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	agent := "ag-x"
	got := e.walk(postgres.CertificateQuery{
		Scope: authn.Scope{}, Sort: postgres.ByCreation, Filter: issuance.Filter{AgentID: &agent}, Page: postgres.Page{Number: 1, Size: 1},
	})
	if fmt.Sprint(got) != "[mc-1 mc-2]" {
		t.Errorf("certificates of the agent: %v", got)
	}
}
