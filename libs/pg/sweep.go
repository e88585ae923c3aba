package pg

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Sweeper runs statements: a transaction, a connection, or a pool.
type Sweeper interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const (
	// partPages is how much of a table is looked at by one statement, 8 MB, and sweepParts how many such parts by one call.
	partPages  = 1000
	sweepParts = 10
)

// Sweep deletes rows of a table that meet a condition, and returns how many. The condition's parameters begin at $1.
//
// It is for rows that have grown old, in tables where an index that finds them would cost every row at its making, for
// one deletion months later: it walks the pages of the table. A call walks 80 MB, in short statements, from a random part
// on. That is all of it, unless the table is very large; then whoever calls again and again sees all of it in the end.
func Sweep(ctx context.Context, db Sweeper, table, condition string, args ...any) (int64, error) {
	const countSQL = `SELECT (pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint + $2 - 1) / $2`
	var parts int64
	if err := db.QueryRow(ctx, countSQL, quote(table), partPages).Scan(&parts); err != nil {
		return 0, fmt.Errorf("sweep %s: %w", table, err)
	}
	if parts == 0 {
		return 0, nil
	}
	n := len(args)
	sql := fmt.Sprintf(`DELETE FROM %s WHERE ctid >= format('(%%s,0)', $%d::bigint)::tid AND ctid < format('(%%s,0)', $%d::bigint)::tid AND (%s)`,
		quote(table), n+1, n+2, condition)
	var total int64
	first := rand.N(parts) //nolint:gosec // spreads load, protects nothing
	for i := range min(parts, sweepParts) {
		page := (first + i) % parts * partPages
		tag, err := db.Exec(ctx, sql, append(args[:n:n], page, page+partPages)...)
		if err != nil {
			return total, fmt.Errorf("sweep %s: %w", table, err)
		}
		total += tag.RowsAffected()
	}
	return total, nil
}
