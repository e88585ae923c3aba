package postgres

import (
	"context"
	"encoding/json"
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

const teamColumns = `t.id, t.name, t.description, t.email, t.members, t.created_at, t.updated_at, t.revision`

func scanTeam(row pgx.CollectableRow) (organisation.Team, error) {
	var t organisation.Team
	err := row.Scan(&t.ID, &t.Name, &t.Description, &t.Email, &t.Members, &t.CreatedAt, &t.UpdatedAt, &t.Revision)
	return t, err
}

// teams limits a list of teams, or of what belongs to one, to a scope.
func (c *conditions) teams(column string, s authn.Scope) {
	if s.Teams != nil {
		c.parts = append(c.parts, column+" = ANY("+c.arg(s.Teams)+")")
	}
}

// TeamQuery asks for a page of teams. Nil filters ask for nothing.
type TeamQuery struct {
	Scope authn.Scope
	Name  *string
	Order RecordOrder
	Page  Page
}

// Teams returns a page of teams.
func (s *Store) Teams(ctx context.Context, q TeamQuery) (List[organisation.Team], error) {
	var c conditions
	c.teams("t.id", q.Scope)
	c.equal("t.name", q.Name)
	return listPage(ctx, s, listing[organisation.Team]{
		columns: teamColumns, from: "teams t", conditions: c, sort: q.Order.column("t"), id: "t.id",
		descending: q.Order.Descending, page: q.Page, scan: scanTeam, key: q.Order.key,
		place: func(t *organisation.Team) page.Cursor { return q.Order.place(t.Name, page.At(t.CreatedAt, t.ID)) },
	})
}

func team(ctx context.Context, q querier, scope authn.Scope, id, lock string) (organisation.Team, error) {
	c := conditions{args: []any{id}}
	c.teams("t.id", scope)
	return one(ctx, q, row[organisation.Team]{"team", id, scanTeam}, `SELECT `+teamColumns+` FROM teams t WHERE t.id = $1`+c.and()+lock, c.args...)
}

// Team returns a team, NotFound if there is none within the scope.
func (s *Store) Team(ctx context.Context, scope authn.Scope, id string) (organisation.Team, error) {
	return team(ctx, s.pool, scope, id, "")
}

func encodeMembers(t *organisation.Team) (string, error) {
	if len(t.Members) == 0 {
		return "[]", nil
	}
	b, err := json.Marshal(t.Members)
	if err != nil {
		return "", fmt.Errorf("encode the members of %s: %w", t.ID, err)
	}
	return string(b), nil
}

// AddTeam implements [organisation.Store].
func (s *Store) AddTeam(ctx context.Context, t organisation.Team, f issuance.Fact) error {
	members, err := encodeMembers(&t)
	if err != nil {
		return err
	}
	return s.transact(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO teams (id, name, description, email, members, revision, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			t.ID, t.Name, t.Description, t.Email, members, t.Revision, t.CreatedAt, t.UpdatedAt)
		if pg.IsUnique(err) {
			return fault.New(fault.Conflict, "there is a team %s already", t.ID)
		}
		if err != nil {
			return fmt.Errorf("add team %s: %w", t.ID, err)
		}
		return tell(ctx, tx, t.Revision, f)
	})
}

// ChangeTeam implements [organisation.Store].
func (s *Store) ChangeTeam(
	ctx context.Context, scope authn.Scope, id string, decide func(organisation.Team) (organisation.Team, *issuance.Fact, error),
) (t organisation.Team, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) error {
		before, err := team(ctx, tx, scope, id, forChange)
		if err != nil {
			return err
		}
		var f *issuance.Fact
		if t, f, err = decide(before); err != nil || f == nil {
			return err
		}
		members, err := encodeMembers(&t)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE teams SET name = $2, description = $3, email = $4, members = $5, revision = $6, updated_at = $7
			WHERE id = $1`, id, t.Name, t.Description, t.Email, members, t.Revision, t.UpdatedAt)
		if err != nil {
			return fmt.Errorf("change team %s: %w", id, err)
		}
		return tell(ctx, tx, t.Revision, *f)
	})
	return t, err
}

// forChange leaves alone those who only refer to the row; forRemoval waits for them and keeps new ones away.
const (
	forChange  = ` FOR NO KEY UPDATE`
	forRemoval = ` FOR UPDATE`
)

// RemoveTeam implements [organisation.Store].
func (s *Store) RemoveTeam(
	ctx context.Context, scope authn.Scope, id string, decide func(organisation.Team, []record.Uses) (issuance.Fact, error),
) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		t, err := team(ctx, tx, scope, id, forRemoval)
		if err != nil {
			return err
		}
		by, err := uses(ctx, tx, id, ownersOfTeam, certificatesOfTeam)
		if err != nil {
			return err
		}
		f, err := decide(t, by)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM teams WHERE id = $1`, id); err != nil {
			return fmt.Errorf("remove team %s: %w", id, err)
		}
		return tell(ctx, tx, t.Revision+1, f)
	})
}
