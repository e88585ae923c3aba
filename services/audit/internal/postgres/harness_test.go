package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/audit/internal/chain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.M{M: m}) }

func newPool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return pgtest.New(t, migrations.FS("audit"), "audit")
}

// happened makes n events whose ids begin with a prefix.
func happened(prefix string, n int) []chain.Event {
	events := make([]chain.Event, n)
	for i := range events {
		events[i] = chain.Event{
			ID: fmt.Sprintf("ae-%s-%06d", prefix, i), Actor: "key-ada", ActorType: "User", Action: "certificate_created",
			ResourceType: "certificate", ResourceID: fmt.Sprintf("mc-%s-%d", prefix, i), Details: `{"n": 1, "ü": "\u20ac", "n": 2}`,
			At: time.Date(2026, 11, 23, 12, 0, 0, i*1001, time.FixedZone("", 3600)),
		}
	}
	return events
}

func store(t testing.TB, pool *pgxpool.Pool, events []chain.Event) {
	t.Helper()
	if _, err := appended(t, pool, events); err != nil {
		t.Fatal(err)
	}
}

// superuser is a connection on the database of pool that no right stops.
func superuser(t testing.TB, pool *pgxpool.Pool) *pgxpool.Conn {
	t.Helper()
	conn, err := pgtest.Admin(t, pool).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Release)
	if _, err := conn.Exec(t.Context(), `SET ROLE NONE`); err != nil {
		t.Fatal(err)
	}
	return conn
}

// appended puts events on record and returns how many were new.
func appended(t testing.TB, pool *pgxpool.Pool, events []chain.Event) (n int, err error) {
	t.Helper()
	err = pg.InTx(t.Context(), pool, func(tx pgx.Tx) (err error) {
		n, err = Append(t.Context(), tx, events)
		return err
	})
	return n, err
}
