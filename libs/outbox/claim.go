package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/certctl/certctl/libs/pg"
)

const (
	lookSQL = `SELECT id, coalesce(extract(epoch FROM clock_timestamp() - (SELECT created_at FROM outbox o WHERE o.id = q.id)), 0)::float8
FROM outbox_queue q
WHERE id > $1 AND ($2::text[] IS NULL OR stream = ANY($2))
ORDER BY id LIMIT 1`

	// Messages that were written together have ids one behind the other, and are fetched together. Each run of ids is
	// looked up by itself: a plan that was made while the table was small might join all of it.
	claimSQL = `WITH due AS MATERIALIZED (
	SELECT ctid AS place, id FROM outbox_queue
	WHERE id > $1 AND ($2::text[] IS NULL OR stream = ANY($2))
		AND stream <> ALL($3::text[]) AND id <> ALL($4::bigint[])
	ORDER BY id LIMIT $5
	FOR UPDATE SKIP LOCKED
), run AS MATERIALIZED (
	SELECT min(id) AS first, max(id) AS last FROM (SELECT id, id - row_number() OVER (ORDER BY id) AS gaps FROM due) d GROUP BY gaps
)
SELECT due.place, o.id, o.msg_id, o.stream, o.subject, o.headers, o.body
FROM run CROSS JOIN LATERAL (
	SELECT id, msg_id, stream, subject, headers, body FROM outbox WHERE id BETWEEN first AND last OFFSET 0
) o JOIN due ON due.id = o.id`

	// That a message was published need not be on disk before anything goes on: the relay of a server that has crashed
	// publishes again what was published last, as it does after a crash of its own.
	unsyncedSQL = `SET LOCAL synchronous_commit = off`

	// By where the rows lie, since they are locked and stay there.
	sentSQL = `DELETE FROM outbox_queue WHERE ctid = ANY($1)`
)

// row is a claimed message.
type row struct {
	at pgtype.TID // in the queue
	id int64
	Message
}

// look reports whether there are unsent rows. A full look begins at the first row and sets the floor from which the
// others begin: the index of the queue still holds every row that was sent since it was last vacuumed, and walking over
// these costs more than all the rest. A row that commits late, below the floor, waits for the next full look.
func (r *Relay) look(ctx context.Context, full bool) (bool, error) {
	from := r.floor
	if full {
		from = 0
	}
	var first int64
	var age float64
	err := r.Pool.QueryRow(ctx, lookSQL, from, r.Streams).Scan(&first, &age)
	none := errors.Is(err, pgx.ErrNoRows)
	if err != nil && !none {
		return false, fmt.Errorf("look for unsent messages: %w", err)
	}
	if full {
		r.lastFull = time.Now()
		r.meters.unsentAge.Set(age)
		r.floor = max(r.floor, r.newest)
		if !none {
			r.floor = first - 1
		}
	}
	return !none, nil
}

// round claims a batch, publishes it and takes what was published out of the queue. The rows stay locked meanwhile, so
// that no other relay takes them; if this process dies the lock dies with it. More reports whether the batch was a full
// one.
func (r *Relay) round(ctx context.Context) (more bool, err error) {
	rows, tx, err := r.claim(ctx)
	if err != nil {
		return false, err
	}
	sent := r.publish(ctx, rows)
	r.pace.Done(len(sent), time.Now())
	if len(sent) == 0 {
		return false, abandon(ctx, tx)
	}
	if _, err := tx.Exec(ctx, sentSQL, placesOf(rows, sent)); err != nil {
		return false, errors.Join(fmt.Errorf("take %d sent messages out of the queue: %w", len(sent), err), abandon(ctx, tx))
	}
	if err := pg.Commit(ctx, tx); err != nil {
		return false, fmt.Errorf("take %d sent messages out of the queue: %w", len(sent), err)
	}
	return len(rows) == r.Batch, nil
}

// placesOf returns where the rows lie in the queue that have one of the ids.
func placesOf(rows []row, ids []int64) []pgtype.TID {
	wanted := make(map[int64]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	places := make([]pgtype.TID, 0, len(ids))
	for _, row := range rows {
		if wanted[row.id] {
			places = append(places, row.at)
		}
	}
	return places
}

// claim returns due rows and the transaction that has them locked.
func (r *Relay) claim(ctx context.Context) ([]row, pgx.Tx, error) {
	conn, err := r.Pool.Acquire(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("claim messages: %w", err)
	}
	streams, ids := r.trouble.avoid(time.Now())
	var rows []row
	batch := &pgx.Batch{}
	batch.BeginTx(pgx.TxOptions{})
	batch.Queue(unsyncedSQL)
	batch.Queue(claimSQL, r.floor, r.Streams, streams, ids, r.Batch).Query(func(found pgx.Rows) error {
		rows, err = pgx.CollectRows(found, scanRow)
		return err
	})
	results := conn.SendBatch(ctx, batch)
	err = results.Close()
	tx := claimTx{results.Tx(), conn.Release}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("claim messages: %w", err), abandon(ctx, tx))
	}
	// Nearly in the order in which they were written, since then receivers have less to put right.
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.id, b.id) })
	if len(rows) > 0 {
		r.newest = max(r.newest, rows[len(rows)-1].id)
	}
	return rows, tx, nil
}

func scanRow(from pgx.CollectableRow) (row, error) {
	var r row
	err := from.Scan(&r.at, &r.id, &r.ID, &r.Stream, &r.Subject, &r.Header, &r.Body)
	return r, err
}

// claimTx returns its connection to the pool when it ends.
type claimTx struct {
	pgx.Tx
	release func()
}

// Commit commits and releases.
func (tx claimTx) Commit(ctx context.Context) error {
	defer tx.release()
	return tx.Tx.Commit(ctx)
}

// Rollback rolls back and releases.
func (tx claimTx) Rollback(ctx context.Context) error {
	defer tx.release()
	return tx.Tx.Rollback(ctx)
}

// abandon gives claimed rows back. The server does the same if the connection is gone.
func abandon(ctx context.Context, tx pgx.Tx) error {
	if err := tx.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		return fmt.Errorf("give messages back: %w", err)
	}
	return nil
}
