// Package postgres stores the chain of audit events and reads it.
//
// There is one writer at a time, however many replicas run: whoever appends holds a lock
// until its transaction ends, and reads the head under it.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/audit/internal/chain"
)

const chainLock = "audit-chain"

const readHead = `SELECT sequence, hash FROM audit_events ORDER BY sequence DESC LIMIT 1`

const insertEvents = `
INSERT INTO audit_events (sequence, id, actor, actor_type, action, resource_type, resource_id, details, happened_at, hash)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::json[],
                     $9::timestamptz[], $10::bytea[])`

// Append puts events at the end of the chain, in their order, within tx.
func Append(ctx context.Context, tx pgx.Tx, events []chain.Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := pg.LockTx(ctx, tx, chainLock); err != nil {
		return fmt.Errorf("lock the audit chain: %w", err)
	}
	head, err := Head(ctx, tx)
	if err != nil {
		return err
	}
	head.Append(events)
	if _, err := tx.Exec(ctx, insertEvents, columns(events)...); err != nil {
		return fmt.Errorf("append %d audit events: %w", len(events), err)
	}
	return nil
}

// Querier is a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Head returns the end of the chain.
func Head(ctx context.Context, q Querier) (chain.Head, error) {
	var head chain.Head
	var hash []byte
	err := q.QueryRow(ctx, readHead).Scan(&head.Sequence, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return chain.Head{}, nil
	}
	if err != nil {
		return chain.Head{}, fmt.Errorf("read the head of the audit chain: %w", err)
	}
	head.Hash = chain.Hash(hash)
	return head, nil
}

func columns(events []chain.Event) []any {
	n := len(events)
	sequence, at, hash := make([]int64, n), make([]time.Time, n), make([][]byte, n)
	var text [7][]string
	for i := range text {
		text[i] = make([]string, n)
	}
	for i := range events {
		e := &events[i]
		sequence[i], at[i], hash[i] = e.Sequence, e.At, e.Hash[:]
		for j, v := range []string{e.ID, e.Actor, e.ActorType, e.Action, e.ResourceType, e.ResourceID, e.Details} {
			text[j][i] = v
		}
	}
	return []any{sequence, text[0], text[1], text[2], text[3], text[4], text[5], text[6], at, hash}
}
