package outbox_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
)

func TestInsert_RefusesASecondMessageOfTheSameID(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	insert(t, pool, message("a", "EVT"))
	err := outbox.Insert(t.Context(), pool, message("b", "EVT"), message("a", "EVT"))
	if !pg.IsUnique(err) {
		t.Errorf("got %v, want a unique violation", err)
	}
	if n := unsent(t, pool); n != 1 {
		t.Errorf("%d rows, want 1: an insert is all or nothing", n)
	}
}

func TestInsert_OfNothingDoesNothing(t *testing.T) {
	t.Parallel()
	must(t, outbox.Insert(t.Context(), newPool(t)))
}

func TestInsertSQL_IsPartOfAStatement(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	must(t, renameAll(t.Context(), pool, "shop", []string{"x", "y"}))
	rows, err := pool.Query(t.Context(), "SELECT msg_id || ' ' || convert_from(body, 'UTF8') FROM outbox ORDER BY 1")
	must(t, err)
	var got []string
	for rows.Next() {
		var s string
		must(t, rows.Scan(&s))
		got = append(got, s)
	}
	must(t, rows.Err())
	if diff := cmp.Diff([]string{"x x", "y y"}, got); diff != "" {
		t.Error(diff)
	}
}

// renameAll makes a change to many rows and writes the messages of it, in one statement.
func renameAll(ctx context.Context, pool *pgxpool.Pool, consumer string, ids []string) error {
	messages := make([]outbox.Message, len(ids))
	for i, id := range ids {
		messages[i] = message(id, "EVT")
	}
	columns, err := outbox.ColumnsOf(messages)
	if err != nil {
		return err
	}
	args := append([]any{consumer, ids}, columns.Args()...)
	_, err = pool.Exec(ctx, `WITH told AS (`+outbox.InsertSQL(3)+`)
		INSERT INTO inbox (consumer, msg_id) SELECT $1, unnest($2::text[])`, args...)
	return err
}

// A service's statement has its own parameters first; those of the outbox follow.
func ExampleInsertSQL() {
	fmt.Println("WITH told AS (" + outbox.InsertSQL(3) + ")\nUPDATE thing SET name = $2 WHERE id = $1")
	// Output:
	// WITH told AS (INSERT INTO outbox (msg_id, stream, subject, headers, body)
	// SELECT id, stream, subject, header::jsonb, body
	// FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[]) AS m (id, stream, subject, header, body))
	// UPDATE thing SET name = $2 WHERE id = $1
}

func TestPrune_DeletesOnlyWhatWasSentLongAgo(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	insert(t, pool, message("old", "EVT"), message("new", "EVT"), message("unsent", "EVT"))
	for id, sent := range map[string]string{"old": "now() - interval '31 days'", "new": "now()"} {
		_, err := pool.Exec(t.Context(), "UPDATE outbox SET sent_at = "+sent+" WHERE msg_id = $1", id)
		must(t, err)
	}
	n, err := outbox.Prune(t.Context(), pool, 30*24*time.Hour)
	must(t, err)
	if n != 1 {
		t.Errorf("%d rows deleted, want 1", n)
	}
	var left int
	must(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM outbox WHERE msg_id <> 'old'").Scan(&left))
	if left != 2 {
		t.Errorf("%d rows left, want 2", left)
	}
}
