package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

var decideSQL = `WITH job AS (
	UPDATE jobs SET approved_by = $2, approved_at = $3, rejected_by = $4, approval_reason = $5
	WHERE id = $1
	RETURNING id, lease_token AS version
)
` + insertEvents("job", "id", 6)

// Decide implements [issuance.Store].
func (s *Store) Decide(ctx context.Context, c issuance.Change, d issuance.Decision) (applied bool, err error) {
	eventArgs, err := factArgs(c.JobID, d.Fact)
	if err != nil {
		return false, err
	}
	approvedBy, rejectedBy := d.By, ""
	approvedAt := &d.Fact.At
	if !d.Approved {
		approvedBy, rejectedBy, approvedAt = "", d.By, (*time.Time)(nil)
	}
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		done, err := apply(ctx, tx, []issuance.Change{c})
		if applied = done[c.JobID]; err != nil || !applied {
			return err
		}
		_, err = tx.Exec(ctx, decideSQL, append([]any{c.JobID, approvedBy, approvedAt, rejectedBy, d.Reason}, eventArgs...)...)
		if err != nil {
			return fmt.Errorf("note what was decided about %s: %w", c.JobID, err)
		}
		return nil
	})
	if err != nil || !applied {
		return false, err
	}
	s.hooks.Told()
	s.wake([]issuance.Change{c})
	return true, nil
}
