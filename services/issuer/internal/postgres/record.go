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

// row is one row of a kind of thing.
type row[T any] struct {
	what, id string
	scan     func(pgx.CollectableRow) (T, error)
}

// one reads the only row of a query, NotFound if there is none.
func one[T any](ctx context.Context, q querier, r row[T], sql string, args ...any) (T, error) {
	var none T
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return none, pg.Fault(fmt.Errorf("read %s %s: %w", r.what, r.id, err))
	}
	found, err := pgx.CollectExactlyOneRow(rows, r.scan)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return none, fault.New(fault.NotFound, "there is no %s %s", r.what, r.id)
	case err != nil:
		return none, pg.Fault(fmt.Errorf("read %s %s: %w", r.what, r.id, err))
	default:
		return found, nil
	}
}

// reference is a column by which rows refer to a record, and an order of those that an index has.
type reference struct{ kind, table, column, order string }

var (
	ownersOfTeam         = reference{"owner", "owners", "team_id", "created_at, id"}
	certificatesOfTeam   = reference{"certificate", "certificates", "team_id", "created_at, id"}
	certificatesOfOwner  = reference{"certificate", "certificates", "owner_id", "created_at, id"}
	certificatesOfIssuer = reference{"certificate", "certificates", "issuer_id", "created_at, id"}
	issuersBelow         = reference{"issuer", "issuers", "parent_issuer_id", "created_at, id"}
	policiesOfIssuer     = reference{"renewal policy", "(SELECT id, created_at, unnest(fallback_issuer_ids) AS issuer_id FROM renewal_policies) p", "issuer_id", "created_at, id"}
	versionsOfIssuer     = reference{"certificate version", "certificate_versions", "issuer_id", "serial_number"}
)

// uses finds what refers to a record. The caller holds its lock, so that nothing new can.
func uses(ctx context.Context, q querier, id string, by ...reference) ([]record.Uses, error) {
	all := make([]record.Uses, len(by))
	for i, r := range by {
		all[i].Kind = r.kind
		sql := fmt.Sprintf(`SELECT ARRAY(SELECT id FROM %[1]s WHERE %[2]s = $1 ORDER BY %[3]s LIMIT %[4]d),
			(SELECT count(*) FROM (SELECT FROM %[1]s WHERE %[2]s = $1 LIMIT %[5]d) t)`, r.table, r.column, r.order, record.NamedUses, record.MaxUses)
		if err := q.QueryRow(ctx, sql, id).Scan(&all[i].First, &all[i].Total); err != nil {
			return nil, fmt.Errorf("find what uses %s: %w", id, err)
		}
	}
	return all, nil
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

func (o RecordOrder) key(cur page.Cursor) ([]any, error) {
	key, ok := strings.CutPrefix(cur.Key, o.prefix())
	if !ok {
		return nil, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "comes from a list in another order"})
	}
	if !o.byName() {
		at, err := page.Cursor{Key: key, ID: cur.ID}.Time()
		return []any{at}, err
	}
	if !issuance.Printable(key) {
		return nil, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that a list has given"})
	}
	return []any{key}, nil
}
