package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	lookSQL = `SELECT id, coalesce(extract(epoch FROM clock_timestamp() - (SELECT created_at FROM outbox o WHERE o.id = q.id)), 0)::float8
FROM outbox_queue q
WHERE id > $1 AND due_at <= now() AND ($2::text[] IS NULL OR stream = ANY($2))
ORDER BY id LIMIT 1`

	// Of two relays that take the same row the second waits, and then sees that it is not due any more.
	//
	// Messages that were written together have ids one behind the other, and are fetched together. Each run of ids is
	// looked up by itself: a plan that was made while the table was small might join all of it.
	claimSQL = `WITH due AS MATERIALIZED (
	SELECT ctid AS place FROM outbox_queue
	WHERE id > $1 AND due_at <= now() AND ($2::text[] IS NULL OR stream = ANY($2))
		AND stream <> ALL($3::text[]) AND id <> ALL($4::bigint[])
	ORDER BY id LIMIT $5
), claimed AS (
	UPDATE outbox_queue q SET due_at = now() + $6::interval FROM due WHERE q.ctid = due.place AND q.due_at <= now() RETURNING q.id
), run AS MATERIALIZED (
	SELECT min(id) AS first, max(id) AS last FROM (SELECT id, id - row_number() OVER (ORDER BY id) AS gaps FROM claimed) c GROUP BY gaps
)
SELECT o.id, o.msg_id, o.stream, o.subject, o.headers, o.body
FROM run CROSS JOIN LATERAL (
	SELECT id, msg_id, stream, subject, headers, body FROM outbox WHERE id BETWEEN first AND last OFFSET 0
) o`

	// What the relay notes in the queue need not be on disk before anything goes on: after a crash of Postgres the server
	// publishes again what was published last, as it does after a crash of the relay.
	unsyncedSQL = `SELECT set_config('synchronous_commit', 'off', true)`

	releaseSQL = `UPDATE outbox_queue SET due_at = '-infinity' WHERE id = ANY($1)`

	releaseAllSQL = `UPDATE outbox_queue SET due_at = '-infinity' WHERE due_at > '-infinity' AND ($1::text[] IS NULL OR stream = ANY($1))`

	settledSQL = `DELETE FROM outbox_queue WHERE id = ANY($1)`
)

// row is a claimed message.
type row struct {
	id int64
	Message
}

// look reports whether there are rows to publish. A full look begins at the first row and sets the floor from which the
// others begin: the index of the queue still holds every row that has settled since it was last vacuumed, and walking
// over these costs more than all the rest. A row that commits late, below the floor, waits for the next full look.
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
			r.floor, r.mark = first-1, first-1
		}
	}
	return !none, nil
}

// round claims a batch and publishes it. What was published is left to settle. More reports whether the batch was a full
// one.
func (r *Relay) round(ctx context.Context) (more bool, err error) {
	rows, err := r.claim(ctx)
	if err != nil {
		return false, err
	}
	server := r.server()
	sent := r.publish(ctx, rows)
	r.pace.Done(len(sent), time.Now())
	if len(sent) > 0 {
		r.settling = append(r.settling, settling{ids: sent, server: server, at: time.Now()})
	}
	if len(sent) == len(rows) {
		return len(rows) == r.Batch, nil
	}
	return false, r.release(ctx, without(idsOf(rows), sent))
}

// release lets rows be claimed again.
func (r *Relay) release(ctx context.Context, ids []int64) error {
	r.floor = min(r.floor, slices.Min(ids)-1)
	r.mark = r.floor
	return r.note(ctx, releaseSQL, ids)
}

// advance raises the floor to the highest id that was claimed a while ago. Transactions that overlap commit in another
// order than that of their ids; what comes later than a while waits for the next full look.
func (r *Relay) advance(now time.Time) {
	if now.Sub(r.markedAt) < overlap {
		return
	}
	r.floor, r.mark, r.markedAt = max(r.floor, r.mark), r.newest, now
}

// without returns the ids that are not among others.
func without(ids, others []int64) []int64 {
	known := make(map[int64]bool, len(others))
	for _, id := range others {
		known[id] = true
	}
	return slices.DeleteFunc(ids, func(id int64) bool { return known[id] })
}

// claim returns rows that are due, and keeps them from others for a while.
func (r *Relay) claim(ctx context.Context) ([]row, error) {
	now := time.Now()
	streams, ids := r.trouble.avoid(now)
	if len(streams) == 0 && len(ids) == 0 {
		r.advance(now)
	}
	var rows []row
	batch := &pgx.Batch{}
	batch.Queue(unsyncedSQL)
	batch.Queue(claimSQL, r.floor, r.Streams, streams, ids, r.Batch, claimedFor).Query(func(found pgx.Rows) (err error) {
		rows, err = pgx.CollectRows(found, scanRow)
		return err
	})
	if err := r.Pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("claim messages: %w", err)
	}
	// Nearly in the order in which they were written, since then receivers have less to put right.
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.id, b.id) })
	if len(rows) > 0 {
		r.newest = max(r.newest, rows[len(rows)-1].id)
	}
	return rows, nil
}

func scanRow(from pgx.CollectableRow) (row, error) {
	var r row
	err := from.Scan(&r.id, &r.ID, &r.Stream, &r.Subject, &r.Header, &r.Body)
	return r, err
}

// note runs a statement on the queue, unsynced.
func (r *Relay) note(ctx context.Context, sql string, args ...any) error {
	batch := &pgx.Batch{}
	batch.Queue(unsyncedSQL)
	batch.Queue(sql, args...)
	if err := r.Pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("note in the queue what was published: %w", err)
	}
	return nil
}
