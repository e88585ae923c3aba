package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/record"
)

// tell writes facts about one aggregate into the outbox, the first as of a revision and each further one as of the next.
func tell(ctx context.Context, q querier, revision int64, facts ...issuance.Fact) error {
	var told events
	for i, f := range facts {
		if err := told.add("", f, revision+int64(i)); err != nil {
			return err
		}
	}
	return outbox.Insert(ctx, q, told.messages...)
}

// transact runs a change of records in a transaction that leaves something to be told. Records are changed by people and
// rarely, so they are read, decided upon and written under a lock.
func (s *Store) transact(ctx context.Context, do func(tx pgx.Tx) error) error {
	if err := pg.InTx(ctx, s.pool, do); err != nil {
		return err
	}
	s.hooks.Told()
	return nil
}

// one reads the only row of a query, NotFound if there is none.
func one[T any](ctx context.Context, q querier, scan func(pgx.CollectableRow) (T, error), what, id, sql string, args ...any) (T, error) {
	var none T
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return none, pg.Fault(fmt.Errorf("read %s %s: %w", what, id, err))
	}
	found, err := pgx.CollectExactlyOneRow(rows, scan)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return none, fault.New(fault.NotFound, "there is no %s %s", what, id)
	case err != nil:
		return none, pg.Fault(fmt.Errorf("read %s %s: %w", what, id, err))
	default:
		return found, nil
	}
}

// uses finds what refers to a record by a column, the first in an order that an index has.
func uses(ctx context.Context, q querier, kind, table, column, order, id string) (record.Uses, error) {
	u := record.Uses{Kind: kind}
	// A row that was counted and is gone is no harm: the caller holds the record's lock, so none can be added.
	sql := fmt.Sprintf(`SELECT ARRAY(SELECT id FROM %[1]s WHERE %[2]s = $1 ORDER BY %[5]s LIMIT %[3]d),
		(SELECT count(*) FROM (SELECT FROM %[1]s WHERE %[2]s = $1 LIMIT %[4]d) t)`, table, column, record.NamedUses, record.MaxUses, order)
	if err := q.QueryRow(ctx, sql, id).Scan(&u.First, &u.Total); err != nil {
		return u, fmt.Errorf("find what uses %s: %w", id, err)
	}
	return u, nil
}

// RecordOrder is an order of teams or owners.
type RecordOrder struct {
	// Name is createdAt or name; empty is createdAt.
	Name       string
	Descending bool
}

func (o RecordOrder) byName() bool { return o.Name == "name" }

// column is the sort column of a table with the alias.
func (o RecordOrder) column(alias string) string {
	if o.byName() {
		return alias + ".name"
	}
	return alias + ".created_at"
}

// A cursor names its order, so that one of another order is refused and not misread.
func (o RecordOrder) prefix() string {
	prefix := "createdAt:"
	if o.byName() {
		prefix = "name:"
	}
	if o.Descending {
		return "-" + prefix
	}
	return prefix
}

func (o RecordOrder) place(name string, at page.Cursor) page.Cursor {
	if o.byName() {
		at.Key = name
	}
	at.Key = o.prefix() + at.Key
	return at
}

func (o RecordOrder) key(cur page.Cursor) (any, error) {
	key, ok := strings.CutPrefix(cur.Key, o.prefix())
	if !ok {
		return nil, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "comes from a list in another order"})
	}
	if !o.byName() {
		return page.Cursor{Key: key, ID: cur.ID}.Time()
	}
	if !issuance.Printable(key) {
		return nil, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that a list has given"})
	}
	return key, nil
}
