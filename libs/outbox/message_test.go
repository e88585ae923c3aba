package outbox_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/libs/outbox"
)

func TestInsert_IsAllOrNothing(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	nul := message("b", "EVT")
	nul.Subject = "\x00"
	if err := outbox.Insert(t.Context(), pool, message("a", "EVT"), nul); err == nil {
		t.Error("NUL was stored")
	}
	if n := unsent(t, pool); n != 0 {
		t.Errorf("%d rows, want none", n)
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
	columns := outbox.ColumnsOf(messages)
	args := append([]any{consumer, ids}, columns.Args()...)
	_, err := pool.Exec(ctx, `WITH told AS (`+outbox.InsertSQL(3)+`)
		INSERT INTO inbox (consumer, msg_id) SELECT $1, unnest($2::text[])`, args...)
	return err
}

// A service's statement has its own parameters first; those of the outbox follow.
func ExampleInsertSQL() {
	fmt.Println("WITH told AS (" + outbox.InsertSQL(3) + ")\nUPDATE thing SET name = $2 WHERE id = $1")
	// Output:
	// WITH told AS (INSERT INTO outbox (msg_id, stream, subject, headers, body)
	// SELECT id, stream, subject, header::json, body
	// FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[]) AS m (id, stream, subject, header, body))
	// UPDATE thing SET name = $2 WHERE id = $1
}

func TestPrune_DeletesOnlyWhatIsOldAndPublished(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	insert(t, pool, message("stuck", "EVT"), message("old", "EVT"), message("new", "EVT"), message("unsent", "EVT"))
	for _, sql := range []string{
		"DELETE FROM outbox_queue q USING outbox o WHERE o.id = q.id AND msg_id IN ('old', 'new')",
		"UPDATE outbox SET created_at = now() - interval '31 days' WHERE msg_id IN ('old', 'stuck')",
	} {
		_, err := pool.Exec(t.Context(), sql)
		must(t, err)
	}
	n, err := outbox.Prune(t.Context(), pool, outbox.Keep)
	must(t, err)
	if n != 1 {
		t.Errorf("%d rows deleted, want 1", n)
	}
	var left, queued int
	must(t, pool.QueryRow(t.Context(), "SELECT count(*), (SELECT count(*) FROM outbox_queue) FROM outbox WHERE msg_id <> 'old'").Scan(&left, &queued))
	if left != 3 || queued != 2 {
		t.Errorf("%d rows left of which %d are unsent, want 3 and 2", left, queued)
	}
}

func TestPrune_ForgetsToSendWhatSomebodyHasDeleted(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	insert(t, pool, message("a", "EVT"), message("b", "EVT"))
	_, err := pool.Exec(t.Context(), "DELETE FROM outbox WHERE msg_id = 'a'")
	must(t, err)
	_, err = outbox.Prune(t.Context(), pool, outbox.Keep)
	must(t, err)
	if n := unsent(t, pool); n != 1 {
		t.Errorf("%d rows are to be sent, want 1", n)
	}
}
