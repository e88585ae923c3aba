// Package pgtest gives each test a database of its own.
package pgtest

import (
	"io/fs"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// New returns a pool on a fresh database.
func New(t testing.TB, migrations fs.FS, schema string) *pgxpool.Pool {
	t.Helper()
	t.Fatal("not ready")
	return nil
}

// Admin returns a pool on the database of pool that acts as the owner of the schema.
func Admin(t testing.TB, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	t.Fatal("not ready")
	return nil
}

// M runs the tests of a package and then stops its Postgres.
type M struct{ *testing.M }

// Run runs the tests.
func (m M) Run() int { return m.M.Run() }
