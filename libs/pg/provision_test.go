package pg_test

import (
	"errors"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/internal/scratch"
	"github.com/certctl/certctl/libs/pg"
)

const insufficientPrivilege = "42501"

func TestProvision_RuntimeRoleMayOnlyReadAndWriteItsRows(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	for _, sql := range []string{
		"UPDATE item SET stock = 9 WHERE id = 1", "INSERT INTO sale (item) VALUES (1)", "SELECT * FROM sale",
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Errorf("may not %s: %v", sql, err)
		}
	}
	for _, sql := range []string{
		"CREATE TABLE mine (n int)",
		"ALTER TABLE item ADD COLUMN n int",
		"DROP TABLE sale",
		"TRUNCATE sale",
		"DROP TRIGGER sale_stays ON sale",
		"ALTER TABLE sale DISABLE TRIGGER ALL",
		"SET session_replication_role = replica",
		"CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'",
		"DROP SCHEMA shop CASCADE",
		"CREATE SCHEMA other",
		"SET ROLE certctl_shop_owner",
		"SET ROLE postgres",
		"CREATE ROLE another",
		"CREATE TABLE public.mine (n int)",
		"UPDATE schema_version SET version_id = 7",
		"COPY item TO PROGRAM 'true'",
	} {
		_, err := pool.Exec(t.Context(), sql)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != insufficientPrivilege {
			t.Errorf("%s: got %v, want it to be refused for lack of rights", sql, err)
		}
	}
}

func TestProvision_RuntimeRoleHasNoRightToAnotherSchema(t *testing.T) {
	t.Parallel()
	database, adminURL := emptyDatabase(t)
	mine, theirs := pg.SchemaOf("mine", "my-password"), pg.SchemaOf("theirs", "their-password")
	must(t, pg.Provision(t.Context(), server(t).AdminURL, database, []pg.Schema{mine, theirs}))
	for _, s := range []pg.Schema{mine, theirs} {
		must(t, pg.Migrate(t.Context(), adminURL, s.Name, s.OwnerRole, shop))
	}
	url, err := mine.RuntimeURL(server(t).AdminURL, database)
	must(t, err)
	conn := connect(t, url)
	for _, sql := range []string{"SELECT * FROM theirs.item", "DELETE FROM theirs.item", "SELECT nextval('theirs.sale_id_seq')"} {
		_, err := conn.Exec(t.Context(), sql)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != insufficientPrivilege {
			t.Errorf("%s: got %v, want it to be refused", sql, err)
		}
	}
}

func TestProvision_MayBeRepeatedAndRunAtOnce(t *testing.T) {
	t.Parallel()
	database, adminURL := emptyDatabase(t)
	s := pg.SchemaOf("repeated", "first")
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			err := errors.Join(
				pg.Provision(t.Context(), server(t).AdminURL, database, []pg.Schema{s}),
				pg.Migrate(t.Context(), adminURL, s.Name, s.OwnerRole, shop))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	conn := connect(t, adminURL)
	if n := query[int](t, conn, "SELECT count(*) FROM repeated.item"); n != 2 {
		t.Errorf("%d items, want 2: migrations ran more than once", n)
	}
	stored := query[string](t, conn, "SELECT rolpassword FROM pg_authid WHERE rolname = 'certctl_repeated'")
	must(t, pg.Provision(t.Context(), server(t).AdminURL, database, []pg.Schema{s}))
	if again := query[string](t, conn, "SELECT rolpassword FROM pg_authid WHERE rolname = 'certctl_repeated'"); again != stored {
		t.Error("an unchanged password was stored anew")
	}
	s.RuntimePassword = "second"
	must(t, pg.Provision(t.Context(), server(t).AdminURL, database, []pg.Schema{s}))
	url, err := s.RuntimeURL(server(t).AdminURL, database)
	must(t, err)
	connect(t, url)
}

func TestProvision_RefusesARoleThatHasMoreRights(t *testing.T) {
	t.Parallel()
	database, _ := emptyDatabase(t)
	conn := connect(t, server(t).AdminURL)
	_, err := conn.Exec(t.Context(), "CREATE ROLE certctl_mighty LOGIN CREATEROLE")
	must(t, err)
	err = pg.Provision(t.Context(), server(t).AdminURL, database, []pg.Schema{pg.SchemaOf("mighty", "p")})
	if fault.CodeOf(err) != fault.Precondition {
		t.Errorf("got %v, want a precondition to fail", err)
	}
}

func TestProvision_WorksForAnAdministratorWhoIsNoSuperuser(t *testing.T) {
	t.Parallel()
	database, _ := emptyDatabase(t)
	_, err := connect(t, server(t).AdminURL).Exec(t.Context(), "CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD 'manager'")
	must(t, err)
	manager := pg.Schema{RuntimeRole: "manager", RuntimePassword: "manager"}
	adminURL, err := manager.RuntimeURL(server(t).AdminURL, "postgres")
	must(t, err)
	s := pg.SchemaOf("managed", "p")
	for range 2 {
		must(t, pg.Provision(t.Context(), adminURL, database, []pg.Schema{s}))
		target, err := pg.OnDatabase(adminURL, database)
		must(t, err)
		must(t, pg.Migrate(t.Context(), target, s.Name, s.OwnerRole, shop))
	}
}

func TestProvision_RefusesSchemasThatNeedQuoting(t *testing.T) {
	t.Parallel()
	s := pg.SchemaOf(`x"; DROP ROLE postgres; --`, "p")
	err := pg.Provision(t.Context(), server(t).AdminURL, "x", []pg.Schema{s})
	if fault.CodeOf(err) != fault.Invalid {
		t.Errorf("got %v, want the name to be invalid", err)
	}
}

func TestMigrate_GoesOnFromWhereItWas(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	db := pool.Config().ConnConfig.Database
	adminURL, err := pg.OnDatabase(server(t).AdminURL, db)
	must(t, err)
	next := fstest.MapFS{
		"0001_shop.sql":  shop["0001_shop.sql"],
		"0002_price.sql": {Data: []byte("-- +goose Up\nALTER TABLE item ADD price int NOT NULL DEFAULT 5;\n")},
	}
	for range 2 {
		must(t, pg.Migrate(t.Context(), adminURL, "shop", "certctl_shop_owner", next))
	}
	if price := query[int](t, pool, "SELECT price FROM item WHERE id = 1"); price != 5 {
		t.Errorf("price %d, want 5", price)
	}
	// The previous release may run beside the next.
	must(t, pg.Migrate(t.Context(), adminURL, "shop", "certctl_shop_owner", shop))
	if owner := query[string](t, scratch.Owner(t, pool), "SELECT tableowner FROM pg_tables WHERE tablename = 'item'"); owner != "certctl_shop_owner" {
		t.Errorf("item belongs to %s", owner)
	}
}

func TestMigrate_LeavesNothingOfAFileThatFails(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	adminURL, err := pg.OnDatabase(server(t).AdminURL, pool.Config().ConnConfig.Database)
	must(t, err)
	err = pg.Migrate(t.Context(), adminURL, "shop", "certctl_shop_owner", fstest.MapFS{
		"0001_shop.sql":   shop["0001_shop.sql"],
		"0002_broken.sql": {Data: []byte("-- +goose Up\nCREATE TABLE half (n int);\nCREATE TABLE item (n int);\n")},
	})
	if err == nil {
		t.Fatal("a broken migration succeeded")
	}
	if query[bool](t, pool, "SELECT to_regclass('half') IS NOT NULL") {
		t.Error("half a migration stayed")
	}
}
