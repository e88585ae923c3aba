package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/organisation"
	"github.com/certctl/certctl/services/issuer/internal/record"
)

const ownerColumns = `o.id, o.name, o.email, o.team_id, o.created_at, o.updated_at, o.revision`

func scanOwner(row pgx.CollectableRow) (organisation.Owner, error) {
	var o organisation.Owner
	err := row.Scan(&o.ID, &o.Name, &o.Email, &o.TeamID, &o.CreatedAt, &o.UpdatedAt, &o.Revision)
	return o, err
}

// OwnerQuery asks for a page of owners. Nil filters ask for nothing.
type OwnerQuery struct {
	Scope        authn.Scope
	Name, TeamID *string
	Order        RecordOrder
	Page         Page
}

// Owners returns a page of owners.
func (s *Store) Owners(ctx context.Context, q OwnerQuery) (List[organisation.Owner], error) {
	var c conditions
	c.teams("o.team_id", q.Scope)
	c.equal("o.name", q.Name)
	c.equal("o.team_id", q.TeamID)
	return listPage(ctx, s, listing[organisation.Owner]{
		columns: ownerColumns, from: "owners o", conditions: c, sort: q.Order.column("o"), id: "o.id",
		descending: q.Order.Descending, page: q.Page, scan: scanOwner, key: q.Order.key,
		place: func(o *organisation.Owner) page.Cursor { return q.Order.place(o.Name, page.At(o.CreatedAt, o.ID)) },
	})
}

func owner(ctx context.Context, q querier, scope authn.Scope, id, lock string) (organisation.Owner, error) {
	c := conditions{args: []any{id}}
	c.teams("o.team_id", scope)
	return one(ctx, q, row[organisation.Owner]{"owner", id, scanOwner}, `SELECT `+ownerColumns+` FROM owners o WHERE o.id = $1`+c.and()+lock, c.args...)
}

// Owner returns an owner, NotFound if there is none within the scope.
func (s *Store) Owner(ctx context.Context, scope authn.Scope, id string) (organisation.Owner, error) {
	return owner(ctx, s.pool, scope, id, "")
}

// AddOwner implements [organisation.Store].
func (s *Store) AddOwner(ctx context.Context, o organisation.Owner, f issuance.Fact) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO owners (id, name, email, team_id, revision, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`, o.ID, o.Name, o.Email, o.TeamID, o.Revision, o.CreatedAt, o.UpdatedAt)
		if err := ownerError(err, &o); err != nil {
			return err
		}
		return tell(ctx, tx, o.Revision, f)
	})
}

func ownerError(err error, o *organisation.Owner) error {
	switch {
	case pg.IsUnique(err):
		return fault.New(fault.Conflict, "there is an owner %s already", o.ID)
	case pg.IsForeignKey(err):
		return fault.InvalidFields(fault.Field{Name: "team_id", Reason: "unknown team " + o.TeamID})
	case err != nil:
		return fmt.Errorf("write owner %s: %w", o.ID, err)
	default:
		return nil
	}
}

// ChangeOwner implements [organisation.Store].
func (s *Store) ChangeOwner(
	ctx context.Context, scope authn.Scope, id string, decide func(organisation.Owner) (organisation.Owner, *issuance.Fact, error),
) (o organisation.Owner, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) error {
		before, err := owner(ctx, tx, scope, id, forChange)
		if err != nil {
			return err
		}
		var f *issuance.Fact
		if o, f, err = decide(before); err != nil || f == nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE owners SET name = $2, email = $3, team_id = $4, revision = $5, updated_at = $6 WHERE id = $1`,
			id, o.Name, o.Email, o.TeamID, o.Revision, o.UpdatedAt)
		if err := ownerError(err, &o); err != nil {
			return err
		}
		return tell(ctx, tx, o.Revision, *f)
	})
	return o, err
}

// RemoveOwner implements [organisation.Store].
func (s *Store) RemoveOwner(
	ctx context.Context, scope authn.Scope, id string, decide func(organisation.Owner, []record.Uses) (issuance.Fact, error),
) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		o, err := owner(ctx, tx, scope, id, forRemoval)
		if err != nil {
			return err
		}
		by, err := uses(ctx, tx, id, certificatesOfOwner)
		if err != nil {
			return err
		}
		f, err := decide(o, by)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM owners WHERE id = $1`, id); err != nil {
			return fmt.Errorf("remove owner %s: %w", id, err)
		}
		return tell(ctx, tx, o.Revision+1, f)
	})
}
