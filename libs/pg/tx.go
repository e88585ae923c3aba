package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/retry"
)

// ErrCommitUnknown means that the connection broke while a transaction was being committed: it may have happened.
// Whoever repeats the work has to make sure that it is not done twice, as an inbox row or a client's own id does.
// Errors that carry it have the code fault.Unavailable.
var ErrCommitUnknown = errors.New("outcome of commit unknown")

// Beginner begins transactions. A pool is one, and so is a connection.
type Beginner interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
}

const (
	txAttempts   = 5
	endOfTxLimit = 10 * time.Second
)

var txRetry = retry.Policy{Base: 5 * time.Millisecond, Cap: 100 * time.Millisecond, Jitter: 0.5, MaxAttempts: txAttempts}

// InTx runs do in a transaction and commits it. An error or a panic of do rolls it back. A serialization failure or a
// deadlock runs do again, up to five times in all, so do has no effect outside of the transaction and resets what it
// gathers. A context that ends during do rolls back; once the commit has been sent it is seen through.
//
// The error is do's own, or one that Fault has coded, or it is ErrCommitUnknown.
func InTx(ctx context.Context, db Beginner, do func(tx pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := once(ctx, db, do)
		if err == nil || !isOneOf(err, serialization, deadlock) || txRetry.Exhausted(attempt) {
			return Fault(err)
		}
		select {
		case <-ctx.Done():
			return Fault(err)
		case <-time.After(txRetry.Delay(attempt, nil)):
		}
	}
}

func once(ctx context.Context, db Beginner, do func(tx pgx.Tx) error) error {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	committing := false
	defer func() {
		if !committing {
			rollback(ctx, tx)
		}
	}()
	if err := do(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("before commit: %w", err)
	}
	committing = true
	return Commit(ctx, tx)
}

// Commit commits tx, and does so even when ctx ends meanwhile: a commit that is given up half-way is in doubt. The
// error is ErrCommitUnknown when the connection was lost.
func Commit(ctx context.Context, tx pgx.Tx) error {
	// pgx says "conn closed" and "safe to retry" also of a commit that it has sent and had no answer to, so whether the
	// connection was lost before has to be asked before.
	if tx.Conn().IsClosed() {
		rollback(ctx, tx) // Gives the connection back to its pool.
		return fmt.Errorf("commit: %w", pgconn.ErrConnClosed)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endOfTxLimit)
	defer cancel()
	err := tx.Commit(ctx)
	if err == nil {
		return nil
	}
	if inDoubt(err) {
		return fault.Wrap(errors.Join(ErrCommitUnknown, err), fault.Unavailable,
			"the database was lost while it was committing")
	}
	return fmt.Errorf("commit: %w", err)
}

func inDoubt(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, pgx.ErrTxClosed) {
		return false
	}
	server := serverError(err)
	return server == nil || strings.HasPrefix(server.Code, classConnection) || strings.HasPrefix(server.Code, classOperator)
}

func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endOfTxLimit)
	defer cancel()
	// A rollback fails only with its connection, and the server then rolls back by itself.
	_ = tx.Rollback(ctx)
}
