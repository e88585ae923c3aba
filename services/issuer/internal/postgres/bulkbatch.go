package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/bulk"
)

// The row of an operation is locked while a batch of it is worked on: that is the lease. Whoever dies loses the lock with
// the connection, whoever hangs loses it after this long, and what was half done is rolled back in either case.
const batchLease = `SET LOCAL idle_in_transaction_session_timeout = '30s'`

const nextOperationSQL = `SELECT ` + operationColumns + ` FROM bulk_operations o
WHERE o.status IN ('Pending', 'Running')
ORDER BY o.worked_at LIMIT 1
FOR UPDATE SKIP LOCKED`

const nextItemsSQL = `SELECT position, certificate_id, status, reason, job_id FROM bulk_items
WHERE operation_id = $1 AND status = 'Pending'
ORDER BY position LIMIT $2`

// NextBatch implements [bulk.Store].
func (s *Store) NextBatch(ctx context.Context, limit int, work func(ctx context.Context, b *bulk.Batch) error) (bool, error) {
	var b *bulk.Batch
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		var err error
		if b, err = takeBatch(ctx, tx, limit); err != nil || b == nil {
			return err
		}
		if err := work(ctx, b); err != nil {
			return err
		}
		return storeBatch(ctx, tx, b)
	})
	if err != nil || b == nil {
		return false, err
	}
	s.hooks.Told()
	s.begun(b.Starts)
	return true, nil
}

// takeBatch locks an operation, and the certificates of its next items. It is nil if there is nothing to take.
func takeBatch(ctx context.Context, tx pgx.Tx, limit int) (*bulk.Batch, error) {
	if _, err := tx.Exec(ctx, batchLease); err != nil {
		return nil, fmt.Errorf("take a batch: %w", err)
	}
	operations, err := collect(ctx, tx, scanOperation, nextOperationSQL)
	if err != nil || len(operations) == 0 {
		return nil, err
	}
	b := &bulk.Batch{Operation: operations[0]}
	if b.Items, err = collect(ctx, tx, scanItem, nextItemsSQL, b.Operation.ID, limit); err != nil {
		return nil, err
	}
	ids := column(b.Items, func(i *bulk.Item) string { return i.CertificateID })
	c := conditions{args: []any{ids}}
	c.scope(b.Operation.Scope)
	if b.Operation.Action == bulk.Archive {
		// Rows of jobs are locked before those of certificates, and no archival is refused for its job.
		if _, err := tx.Exec(ctx, cancelManySQL+c.and(), c.args...); err != nil {
			return nil, fmt.Errorf("cancel the jobs of %d certificates: %w", len(ids), err)
		}
	}
	found, err := collect(ctx, tx, chosenScan(),
		`SELECT `+chosenColumns+` FROM certificates c WHERE c.id = ANY($1)`+c.and()+` ORDER BY c.id FOR UPDATE OF c`, c.args...)
	if err != nil {
		return nil, err
	}
	b.Certificates = make(map[string]bulk.Chosen, len(found))
	for _, one := range found {
		b.Certificates[one.ID] = one
	}
	switch b.Operation.Action {
	case bulk.Archive:
		// Those that began between the two statements; from here on none can.
		if _, err := tx.Exec(ctx, cancelManySQL+c.and(), c.args...); err != nil {
			return nil, fmt.Errorf("cancel the new jobs of %d certificates: %w", len(ids), err)
		}
	case bulk.Renew:
		// Whoever makes a job changes its certificate too, so none can come while these are locked.
		b.Busy, err = busy(ctx, tx, ids)
	case bulk.Reassign:
	}
	return b, err
}

const cancelManySQL = `UPDATE jobs j SET status = 'Cancelled', last_error = 'the certificate was archived', next_action_at = NULL,
	lease_until = NULL, lease_token = j.lease_token + 1, completed_at = now()
FROM certificates c
WHERE j.certificate_id = ANY($1) AND c.id = j.certificate_id
	AND j.status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')`

// One by one: while many jobs are open, to look through all of them for each of these costs more.
const busySQL = `SELECT id FROM unnest($1::text[]) AS c (id) WHERE (SELECT true FROM jobs
	WHERE certificate_id = c.id AND status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running') LIMIT 1)`

func busy(ctx context.Context, tx pgx.Tx, ids []string) (map[string]bool, error) {
	found, err := collect(ctx, tx, pgx.RowTo[string], busySQL, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]bool, len(found))
	for _, id := range found {
		out[id] = true
	}
	return out, nil
}

const storeItemsSQL = `WITH outcome AS (
	UPDATE bulk_items i SET status = n.status, reason = n.reason, job_id = n.job_id
	FROM unnest($2::int[], $3::text[], $4::text[], $5::text[]) AS n (position, status, reason, job_id)
	WHERE i.operation_id = $1 AND i.position = n.position
)
UPDATE bulk_operations SET pending = pending - $6, succeeded = succeeded + $7, refused = refused + $6 - $7,
	status = CASE WHEN pending = $6 THEN 'Completed' ELSE 'Running' END,
	completed_at = CASE WHEN pending = $6 THEN clock_timestamp() END,
	started_at = COALESCE(started_at, now()), worked_at = clock_timestamp()
WHERE id = $1`

// storeBatch stores what is to become of a batch, with the events that tell of it.
func storeBatch(ctx context.Context, tx pgx.Tx, b *bulk.Batch) error {
	if len(b.Starts) > 0 {
		begun, err := begin(ctx, tx, b.Starts)
		if err != nil {
			return err
		}
		if len(begun) != len(b.Starts) {
			return fault.New(fault.Internal, "%d of %d renewals were begun of certificates that are locked", len(begun), len(b.Starts))
		}
	}
	if err := putOnRecord(ctx, tx, b.Breaches); err != nil {
		return err
	}
	if err := changeMany(ctx, tx, archiveManySQL, b.Archived); err != nil {
		return err
	}
	if err := changeMany(ctx, tx, reassignSQL, b.Reassigned); err != nil {
		return err
	}
	succeeded := 0
	for _, i := range b.Items {
		if i.Status == bulk.ItemSucceeded {
			succeeded++
		}
	}
	_, err := tx.Exec(ctx, storeItemsSQL, b.Operation.ID,
		column(b.Items, func(i *bulk.Item) int { return i.Position }),
		column(b.Items, func(i *bulk.Item) string { return string(i.Status) }),
		column(b.Items, func(i *bulk.Item) string { return i.Reason }),
		column(b.Items, func(i *bulk.Item) string { return i.JobID }),
		len(b.Items), succeeded)
	if err != nil {
		return fmt.Errorf("note the outcome of %d items of %s: %w", len(b.Items), b.Operation.ID, err)
	}
	return nil
}

// Both statements take the ids, the time, the facts' own content, and the events.
var (
	archiveManySQL = `WITH cert AS (
		UPDATE certificates c SET status = 'Archived', status_reason = '', version = c.version + 1, updated_at = $2
		FROM unnest($1::text[], $3::text[]) AS i (id, content)
		WHERE c.id = i.id AND c.status <> 'Archived'
		RETURNING c.id, c.version
	)
	` + insertEvents("cert", "id", 4)

	reassignSQL = `WITH cert AS (
		UPDATE certificates c SET owner_id = i.content->>'owner_id', team_id = i.content->>'team_id',
			environment = i.content->>'environment', version = c.version + 1, updated_at = $2
		FROM (SELECT id, content::jsonb FROM unnest($1::text[], $3::text[]) AS raw (id, content)) AS i
		WHERE c.id = i.id
		RETURNING c.id, c.version
	)
	` + insertEvents("cert", "id", 4)
)

func changeMany(ctx context.Context, tx pgx.Tx, sql string, changes []bulk.Told) error {
	if len(changes) == 0 {
		return nil
	}
	var told events
	content := make([]string, len(changes))
	for i, c := range changes {
		if err := told.add(c.CertificateID, c.Fact, 0); err != nil {
			return err
		}
		b, err := json.Marshal(c.Fact.Event)
		if err != nil {
			return fmt.Errorf("encode %s: %w", event.Type(c.Fact.Event), err)
		}
		content[i] = string(b)
	}
	eventArgs := told.args()
	ids := column(changes, func(c *bulk.Told) string { return c.CertificateID })
	if _, err := tx.Exec(ctx, sql, append([]any{ids, changes[0].Fact.At, content}, eventArgs...)...); err != nil {
		if pg.IsForeignKey(err) {
			return fault.Wrap(err, fault.Conflict, "the owner or the team that the certificates are to have is gone")
		}
		return fmt.Errorf("change %d certificates: %w", len(changes), err)
	}
	return nil
}

func collect[T any](ctx context.Context, q querier, scan func(pgx.CollectableRow) (T, error), sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read a batch: %w", err)
	}
	out, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("read a batch: %w", err)
	}
	return out, nil
}
