package sweep_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/testkit/natstest"
	"github.com/certctl/certctl/libs/testkit/pgtest"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/services/deployment/internal/sweep"
)

func TestSilence_IsCalledAfterThreeMissedHeartbeatsAndNotBefore(t *testing.T) {
	db := pgtest.New(t, migrations.FS("deployment"), "deployment")
	now := clock.At(time.Now())
	const interval = time.Minute
	s := &sweep.Silence{
		DB: db, NC: natstest.Start(t).Connect(bus.Options{}).NC, Clock: now, Interval: interval, Committed: func() {},
	}
	do := func() int {
		t.Helper()
		n, err := s.Do(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Heard long ago, but by somebody else: this process has only begun to listen.
	heard := func(id string, ago time.Duration) {
		t.Helper()
		at := now.Now().Add(-ago)
		if _, err := db.Exec(t.Context(), `INSERT INTO agents (id, site_id, public_key, status, last_heartbeat_at, registered_at)
			VALUES ($1, 'site-local', $1, 'Online', $2, $2)`, id, at); err != nil {
			t.Fatal(err)
		}
	}
	heard("agent-long-ago", time.Hour)
	if n := do(); n != 0 {
		t.Fatalf("%d agents called silent by one that has not listened", n)
	}
	now.Advance(3 * interval)
	heard("agent-after-two", 2*interval+interval/2)
	heard("agent-just-three", 3*interval)
	heard("agent-over-three", 3*interval+time.Second)
	if n := do(); n != 2 {
		t.Errorf("%d agents called silent, want 2", n)
	}
	now.Advance(time.Second)
	if n := do(); n != 1 {
		t.Errorf("%d agents called silent a second later, want 1", n)
	}
	if diff := cmp.Diff([]string{"agent-just-three", "agent-long-ago", "agent-over-three"}, offline(t, db)); diff != "" {
		t.Error(diff)
	}
}

func offline(t *testing.T, db *pgxpool.Pool) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT id FROM agents WHERE status = 'Offline' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
