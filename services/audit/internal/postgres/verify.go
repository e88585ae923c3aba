package postgres

import (
	"context"
	"fmt"

	"github.com/certctl/certctl/services/audit/internal/proof"
)

const readChain = `SELECT ` + columnList + ` FROM audit_events WHERE sequence > $1 ORDER BY sequence LIMIT $2`

// verifyBatch is how many events are read at once while the chain is checked.
const verifyBatch = 5000

// Verify reads the whole chain and holds it against the checkpoints that v knows and
// those that are stored. The error is a [proof.Finding] if the chain is not intact.
func Verify(ctx context.Context, q Querier, v *proof.Verifier) (proof.Report, error) {
	for c, err := range Checkpoints(ctx, q, maxSequence) {
		if err == nil {
			err = v.Checkpoint(&c)
		}
		if err != nil {
			return v.Report(), err
		}
	}
	for at := int64(0); ; {
		rows, err := q.Query(ctx, readChain, at, verifyBatch)
		if err != nil {
			return v.Report(), fmt.Errorf("read the audit chain: %w", err)
		}
		events, err := collect(rows)
		if err != nil {
			return v.Report(), err
		}
		for i := range events {
			if err := v.Event(&events[i]); err != nil {
				return v.Report(), err
			}
			at = events[i].Sequence
		}
		if len(events) < verifyBatch {
			return v.End()
		}
	}
}
