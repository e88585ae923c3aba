package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/audit/internal/chain"
)

const (
	checkpointColumns = `sequence, hash, signed_at, key_id, signature`

	newestCheckpoints = `SELECT ` + checkpointColumns + ` FROM audit_checkpoints WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2 OFFSET $3`
	oldestCheckpoints = `SELECT ` + checkpointColumns + ` FROM audit_checkpoints WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence LIMIT 1000`
	countCheckpoints  = `SELECT count(*) FROM audit_checkpoints`
	insertCheckpoint  = `INSERT INTO audit_checkpoints (` + checkpointColumns + `) VALUES ($1, $2, $3, $4, $5)`
	readHash          = `SELECT hash FROM audit_events WHERE sequence = $1`
	readKey           = `SELECT public_key, sealed_seed FROM checkpoint_keys`
	insertKey         = `INSERT INTO checkpoint_keys (public_key, sealed_seed) VALUES ($1, $2) ON CONFLICT DO NOTHING`
)

const maxSequence = math.MaxInt64

// Key reads the key of checkpoints. The error wraps [pgx.ErrNoRows] if there is none yet.
func Key(ctx context.Context, q Querier) (public chain.PublicKey, sealedSeed []byte, err error) {
	if err := q.QueryRow(ctx, readKey).Scan((*[]byte)(&public), &sealedSeed); err != nil {
		return nil, nil, fmt.Errorf("read the key of checkpoints: %w", err)
	}
	return public, sealedSeed, nil
}

// Execer is a pool or a transaction.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// StoreKey stores the key of checkpoints, unless there is one.
func StoreKey(ctx context.Context, db Execer, public chain.PublicKey, sealedSeed []byte) error {
	if _, err := db.Exec(ctx, insertKey, []byte(public), sealedSeed); err != nil {
		return fmt.Errorf("store the key of checkpoints: %w", err)
	}
	return nil
}

// LockChain keeps others from appending until tx ends.
func LockChain(ctx context.Context, tx pgx.Tx) error {
	if err := pg.LockTx(ctx, tx, chainLock); err != nil {
		return fmt.Errorf("lock the audit chain: %w", err)
	}
	return nil
}

// StoreCheckpoint stores a checkpoint.
func StoreCheckpoint(ctx context.Context, db Execer, c *chain.Checkpoint) error {
	if _, err := db.Exec(ctx, insertCheckpoint, c.Sequence, c.Hash[:], c.SignedAt, c.KeyID[:], c.Signature); err != nil {
		return fmt.Errorf("store checkpoint %d: %w", c.Sequence, err)
	}
	return nil
}

// HashAt returns the hash of the event at a place; found is false if none is there.
func HashAt(ctx context.Context, q Querier, sequence int64) (hash chain.Hash, found bool, err error) {
	var b []byte
	err = q.QueryRow(ctx, readHash, sequence).Scan(&b)
	if errors.Is(err, pgx.ErrNoRows) {
		return hash, false, nil
	}
	if err != nil {
		return hash, false, fmt.Errorf("read the hash of event %d: %w", sequence, err)
	}
	copy(hash[:], b)
	return hash, true, nil
}

// ListCheckpoints returns checkpoints, newest first, from those before a place; zero
// begins with the newest.
func ListCheckpoints(ctx context.Context, q Querier, before int64, limit, offset int) ([]chain.Checkpoint, error) {
	if before <= 0 {
		before = maxSequence
	}
	return checkpoints(ctx, q, newestCheckpoints, before, limit, offset)
}

// CountCheckpoints returns how many there are. One is signed every few minutes, so they
// are few.
func CountCheckpoints(ctx context.Context, q Querier) (n int64, err error) {
	if err := q.QueryRow(ctx, countCheckpoints).Scan(&n); err != nil {
		return 0, fmt.Errorf("count checkpoints: %w", err)
	}
	return n, nil
}

// Checkpoints yields all checkpoints up to a place, oldest first. It ends with the first
// error.
func Checkpoints(ctx context.Context, q Querier, last int64) iter.Seq2[chain.Checkpoint, error] {
	return func(yield func(chain.Checkpoint, error) bool) {
		for at := int64(0); ; {
			some, err := checkpoints(ctx, q, oldestCheckpoints, at, last)
			if err != nil {
				yield(chain.Checkpoint{}, err)
				return
			}
			for _, c := range some {
				if !yield(c, nil) {
					return
				}
				at = c.Sequence
			}
			if len(some) == 0 {
				return
			}
		}
	}
}

func checkpoints(ctx context.Context, q Querier, sql string, args ...any) ([]chain.Checkpoint, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (chain.Checkpoint, error) {
		var c chain.Checkpoint
		var hash, key []byte
		err := row.Scan(&c.Sequence, &hash, &c.SignedAt, &key, &c.Signature)
		copy(c.Hash[:], hash)
		copy(c.KeyID[:], key)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	return out, nil
}
