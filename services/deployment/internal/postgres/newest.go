package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Place is a part of a list that is sorted newest first: behind a row if one is named,
// else behind Offset rows.
type Place struct {
	Behind        time.Time
	BehindID      string
	Offset, Limit int
}

// newest is such a list: its rows are those of a table, sorted by a time and the id.
type newest[T any] struct {
	// what is listed, for errors
	what    string
	columns string
	table   string
	// at is the column of the time; an index begins with it.
	at   string
	scan pgx.RowToFunc[T]
}

// read returns a part of the list and counts all that where admits.
func (l newest[T]) read(ctx context.Context, db Querier, where *condition, p Place) (rows []T, total int64, err error) {
	err = db.QueryRow(ctx, `SELECT count(*) FROM `+l.table+where.String(), where.args...).Scan(&total)
	if err != nil {
		return nil, 0, fmt.Errorf("count %s: %w", l.what, err)
	}
	if p.BehindID != "" {
		where.add("("+l.at+", id) < (?, ?)", p.Behind, p.BehindID)
		p.Offset = 0
	}
	args := append(where.args, p.Limit, p.Offset)
	sql := fmt.Sprintf(`SELECT %s FROM %s%s ORDER BY %s DESC, id DESC LIMIT $%d OFFSET $%d`,
		l.columns, l.table, where, l.at, len(args)-1, len(args))
	if rows, err = collect(ctx, db, l.scan, sql, args...); err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", l.what, err)
	}
	return rows, total, nil
}

// equal asks for a value, unless that is empty.
func (c *condition) equal(column, value string) {
	if value != "" {
		c.add(column+" = ?", value)
	}
}

// is asks for a truth, unless nil.
func (c *condition) is(column string, value *bool) {
	if value != nil {
		c.add(column+" = ?", *value)
	}
}
