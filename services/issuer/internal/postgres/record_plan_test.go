package postgres_test

import (
	"regexp"
	"testing"

	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// Lists of records that people set up are served by their indexes too.
func TestRecords_AreServedByTheirIndexes(t *testing.T) {
	e := newEngine(t)
	admin := pgtest.Admin(t, e.pool)
	for _, sql := range []string{
		`INSERT INTO issuer.teams (id, name, created_at)
		SELECT 't-' || i, 'team ' || i, '2026-01-01'::timestamptz + i * interval '1 second' FROM generate_series(1, 20000) i`,
		`INSERT INTO issuer.owners (id, name, team_id, created_at)
		SELECT 'o-' || i, 'owner ' || i, 't-' || i % 100 + 1, '2026-01-01'::timestamptz + i * interval '1 second'
		FROM generate_series(1, 20000) i`,
		`ANALYZE issuer.teams, issuer.owners`,
	} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	first := postgres.Page{Number: 1, Size: 50}
	name, team := "team 7", "t-7"
	byName := postgres.RecordOrder{Name: "name", Descending: true}
	teams := func(q postgres.TeamQuery) func() error {
		q.Page = first
		return func() error { _, err := e.store.Teams(t.Context(), q); return err }
	}
	owners := func(q postgres.OwnerQuery) func() error {
		q.Page = first
		return func() error { _, err := e.store.Owners(t.Context(), q); return err }
	}
	bad := regexp.MustCompile(`Seq Scan on (teams|owners)|Sort Key`)
	for what, query := range map[string]func() error{
		"teams":            teams(postgres.TeamQuery{}),
		"teams by name":    teams(postgres.TeamQuery{Order: byName}),
		"a team of a name": teams(postgres.TeamQuery{Name: &name, Order: byName}),
		"owners":           owners(postgres.OwnerQuery{}),
		"owners by name":   owners(postgres.OwnerQuery{Order: byName}),
		"owners of a team": owners(postgres.OwnerQuery{TeamID: &team}),
	} {
		t.Run(what, func(t *testing.T) {
			for _, plan := range e.plans(query) {
				if m := bad.FindString(plan); m != "" {
					t.Errorf("%s in\n%s", m, plan)
				}
			}
		})
	}
}
