package scratch

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/pg"
)

// password is that of every runtime role. It is the same in all processes, since roles belong to the whole server and
// several processes may test on one.
const password = "scratch-runtime-password"

// database is what belongs to a pool that Pool has returned.
type database struct {
	server Server
	name   string
	schema pg.Schema
}

var databases sync.Map // *pgxpool.Pool -> database

// Pool returns a pool on a database of the test's own on s, with migrations applied to schema, as the schema's runtime
// role. The database is dropped after the test. Tests may run in parallel.
func Pool(t testing.TB, s Server, migrations fs.FS, schema string) *pgxpool.Pool {
	t.Helper()
	db := database{server: s, schema: pg.SchemaOf(schema, password)}
	template, err := s.template(t.Context(), migrations, db.schema)
	if err != nil {
		t.Fatalf("template database of schema %s: %v", schema, err)
	}
	if db.name, err = s.clone(t.Context(), template); err != nil {
		t.Fatalf("clone database: %v", err)
	}
	t.Cleanup(func() { db.drop(t) })
	url, err := db.schema.RuntimeURL(s.AdminURL, db.name)
	if err != nil {
		t.Fatal(err)
	}
	pool := open(t, url, schema)
	databases.Store(pool, db)
	t.Cleanup(func() { databases.Delete(pool) })
	return pool
}

// Owner returns a pool on the database of pool, which Pool has returned, as the role that owns the schema.
func Owner(t testing.TB, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	known, ok := databases.Load(pool)
	if !ok {
		t.Fatal("not a pool on a scratch database")
	}
	db := known.(database)
	url, err := pg.OnDatabase(db.server.AdminURL, db.name)
	if err != nil {
		t.Fatal(err)
	}
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	return open(t, url+separator+"role="+db.schema.OwnerRole, db.schema.Name)
}

func open(t testing.TB, url, schema string) *pgxpool.Pool {
	t.Helper()
	pool, err := pg.Open(t.Context(), url, pg.Options{Schema: schema, AppName: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func (db database) drop(t testing.TB) {
	ctx := context.WithoutCancel(t.Context())
	if err := db.server.exec(ctx, "DROP DATABASE "+db.name+" WITH (FORCE)"); err != nil {
		t.Errorf("drop database: %v", err)
	}
}

func (s Server) clone(ctx context.Context, template string) (string, error) {
	name := "scratch_" + strings.ToLower(rand.Text())
	return name, s.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template)
}

// templates serializes the making of templates in this process; between processes Provision's own lock and the final
// renaming do.
var templates sync.Mutex

// template returns the name of the database with these migrations, and makes it if there is none. Under its name it is
// complete: it is made under another.
func (s Server) template(ctx context.Context, migrations fs.FS, schema pg.Schema) (string, error) {
	name, err := templateName(migrations, schema.Name)
	if err != nil {
		return "", err
	}
	templates.Lock()
	defer templates.Unlock()
	if exists, err := s.has(ctx, name); err != nil || exists {
		return name, err
	}
	draft := "draft_" + strings.ToLower(rand.Text())
	if err := pg.Provision(ctx, s.AdminURL, draft, []pg.Schema{schema}); err != nil {
		return "", err
	}
	url, err := pg.OnDatabase(s.AdminURL, draft)
	if err != nil {
		return "", err
	}
	if err := pg.Migrate(ctx, url, schema.Name, schema.OwnerRole, migrations); err != nil {
		return "", err
	}
	if err := s.exec(ctx, "ALTER DATABASE "+draft+" RENAME TO "+name); err == nil {
		return name, nil
	}
	// Another process was first, or the renaming failed for a reason that cloning will tell.
	return name, s.exec(ctx, "DROP DATABASE "+draft+" WITH (FORCE)")
}

func templateName(migrations fs.FS, schema string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, schema)
	err := fs.WalkDir(migrations, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(migrations, path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(content), content)
		return err
	})
	return "template_" + schema + "_" + hex.EncodeToString(h.Sum(nil)[:8]), err
}

func (s Server) has(ctx context.Context, name string) (exists bool, err error) {
	conn, err := pgx.Connect(ctx, s.AdminURL)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	return exists, err
}

func (s Server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.AdminURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}
