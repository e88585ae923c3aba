package scratch_test

import (
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/internal/scratch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(withShutdown{m}) }

type withShutdown struct{ *testing.M }

func (m withShutdown) Run() int {
	code := m.M.Run()
	if err := scratch.Shutdown(); err != nil {
		panic(err)
	}
	return code
}

var migrations = fstest.MapFS{"0001_things.sql": {Data: []byte("-- +goose Up\nCREATE TABLE thing (n int PRIMARY KEY);\n")}}

func TestPool_GivesEachTestItsOwnDatabase(t *testing.T) {
	server, err := scratch.Private()
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		t.Run("test", func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			pool := scratch.Pool(t, server, migrations, "things")
			t.Logf("database after %v", time.Since(began))
			if _, err := pool.Exec(t.Context(), "INSERT INTO thing VALUES (1)"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPool_IsTheRuntimeRoleAndOwnerIsTheOwner(t *testing.T) {
	server, err := scratch.Private()
	if err != nil {
		t.Fatal(err)
	}
	pool := scratch.Pool(t, server, migrations, "things")
	if _, err := pool.Exec(t.Context(), "DROP TABLE thing"); err == nil {
		t.Error("the runtime role dropped a table")
	}
	if _, err := scratch.Owner(t, pool).Exec(t.Context(), "DROP TABLE thing"); err != nil {
		t.Errorf("the owner may not drop a table: %v", err)
	}
}
