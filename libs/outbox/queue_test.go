package outbox_test

import (
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/internal/scratch"
	"github.com/certctl/certctl/libs/outbox"
)

// What a build before the queue has left unsent is sent by this one.
func TestQueue_TakesOverWhatWasUnsent(t *testing.T) {
	t.Parallel()
	part := func(name string) []byte {
		sql, err := fs.ReadFile(migrations, name)
		must(t, err)
		return sql
	}
	server, err := scratch.Private()
	must(t, err)
	pool := scratch.Pool(t, server, fstest.MapFS{"0001_outbox_and_inbox.sql": {Data: part("0001_outbox_and_inbox.sql")}}, "shop")
	insert(t, pool, message("sent", "EVT"), message("unsent", "EVT"))
	_, err = pool.Exec(t.Context(), "UPDATE outbox SET sent_at = now() WHERE msg_id = 'sent'")
	must(t, err)
	for _, name := range []string{"0002_outbox_queue.sql", "0003_outbox_settling.sql"} {
		_, err = scratch.Owner(t, pool).Exec(t.Context(), string(part(name)), pgx.QueryExecModeSimpleProtocol)
		must(t, err)
	}
	pool.Reset()

	bus := &stream{}
	run(t, &outbox.Relay{Pool: pool, Publish: bus.publish})
	insert(t, pool, message("new", "EVT"))
	eventually(t, "all is sent", func() bool { return unsent(t, pool) == 0 })
	if diff := cmp.Diff([]string{"new", "unsent"}, bus.ids()); diff != "" {
		t.Error(diff)
	}
}

func TestAgain_PublishesWhatWasWrittenSince(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	insert(t, pool, message("old", "EVT"), message("a", "EVT"), message("b", "AUDIT"), message("c", "AGENT_CMD"))
	_, err := pool.Exec(t.Context(), "UPDATE outbox SET created_at = created_at - interval '1 hour' WHERE msg_id = 'old'")
	must(t, err)
	run(t, &outbox.Relay{Pool: pool, Publish: bus.publish})
	eventually(t, "all is sent", func() bool { return unsent(t, pool) == 0 })
	n, err := outbox.Again(t.Context(), pool, []string{"EVT", "AUDIT"}, time.Now().Add(-time.Minute))
	must(t, err)
	eventually(t, "it is sent again", func() bool { return unsent(t, pool) == 0 })
	if diff := cmp.Diff([]string{"a", "a", "b", "b", "c", "old"}, bus.ids()); diff != "" || n != 2 {
		t.Errorf("%d messages, want 2; %s", n, diff)
	}
}

// Messages are many and their table is large: a relay must find the few that are due by their key, with a plan that was
// made while there were none.
func TestRelay_FetchesMessagesByTheirKey(t *testing.T) {
	t.Parallel()
	pool, bus := newPool(t), &stream{}
	relay := &outbox.Relay{Pool: pool, Publish: bus.publish}
	run(t, relay)
	for i := range 20 {
		insert(t, pool, message(string(rune('a'+i)), "EVT"))
		relay.Wake()
		eventually(t, "it is sent", func() bool { return bus.count() == i+1 })
	}
	_, err := pool.Exec(t.Context(), `INSERT INTO outbox (msg_id, stream, subject, headers, body)
		SELECT i::text, 'LATER', 's', '{}', '' FROM generate_series(1, 50000) i`)
	must(t, err)
	_, err = pool.Exec(t.Context(), `DELETE FROM outbox_queue WHERE stream = 'LATER'`)
	must(t, err)
	before := read(t, pool)
	for range 20 {
		n := bus.count()
		insert(t, pool, message("later", "EVT"))
		relay.Wake()
		eventually(t, "it is sent", func() bool { return bus.count() > n })
	}
	eventually(t, "what was read is known", func() bool { return read(t, pool) > before })
	if rows := read(t, pool) - before; rows > 1000 {
		t.Errorf("%d rows of the outbox were read for 20 messages", rows)
	}
}

// read is how many rows of the outbox were ever fetched, as far as sessions have told.
func read(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	must(t, pool.QueryRow(t.Context(), `SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'outbox'`).Scan(&n))
	return n
}
