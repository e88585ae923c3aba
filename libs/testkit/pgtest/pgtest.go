// Package pgtest gives each test a database of its own on a real Postgres.
//
// The Postgres is the one of CERTCTL_DATABASE_URL, if that is set: a server for tests, whose URL is a superuser's,
// since roles are made and their passwords set. With CERTCTL_TEST_POSTGRES=container it is one that testcontainers
// starts. Else, which is the default and needs no set-up, it is a private one of this test process, from the binaries
// on the machine, that is gone when the process is, killed or not.
//
// The migrations are applied once per content, to a template database; each test gets a clone of it, which is dropped
// after the test. Tests may run in parallel. The pool acts as the runtime role of the schema, so a statement that the
// service has no right to fails in its tests.
package pgtest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/internal/scratch"
)

// New returns a pool on a fresh database in which the migrations have been applied to schema. It is closed, and the
// database dropped, when the test ends.
func New(t testing.TB, migrations fs.FS, schema string) *pgxpool.Pool {
	t.Helper()
	server, err := choose(t.Context())
	if err != nil {
		t.Fatalf("no Postgres for tests: %v", err)
	}
	return scratch.Pool(t, server, migrations, schema)
}

// Admin returns a pool on the same database as pool, which New has returned, that acts as the owner of the schema: for
// what a test arranges or damages behind the service's back. It is closed when the test ends.
func Admin(t testing.TB, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	return scratch.Owner(t, pool)
}

// M runs the tests of a package and ends its Postgres after the last. A package that looks for leaked goroutines wraps
// its testing.M in it: goleak.VerifyTestMain(pgtest.M{M: m}). Without that the Postgres ends with the process.
type M struct{ *testing.M }

// Run runs the tests and returns the exit code.
func (m M) Run() int {
	code := m.M.Run()
	if err := scratch.Shutdown(); err != nil {
		fmt.Fprintln(os.Stderr, "end Postgres for tests:", err)
		return max(code, 1)
	}
	return code
}

func choose(ctx context.Context) (scratch.Server, error) {
	if url := os.Getenv("CERTCTL_DATABASE_URL"); url != "" {
		return scratch.Server{AdminURL: url}, nil
	}
	if os.Getenv("CERTCTL_TEST_POSTGRES") == "container" {
		return container(ctx)
	}
	return scratch.Private()
}
