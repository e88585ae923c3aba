package api

import (
	"context"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/issuer/internal/organisation"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// seen is the check of an update's header If-Match.
func seen(ifMatch *string) organisation.Seen {
	return func(revision int64) error { return httpx.Match(ifMatch, revision) }
}

// recordOrder reads the order of a list of teams or owners. The generated type of the parameter says whether it is one
// that is offered.
func recordOrder[S interface {
	~string
	Valid() bool
}](sort *S,
) (postgres.RecordOrder, error) {
	if sort == nil || *sort == "" {
		return postgres.RecordOrder{}, nil
	}
	if !(*sort).Valid() {
		return postgres.RecordOrder{}, invalid("sort", "is none of createdAt and name, with or without a leading -")
	}
	name, descending := strings.CutPrefix(string(*sort), "-")
	return postgres.RecordOrder{Name: name, Descending: descending}, nil
}

// ListTeams implements the operation of that name.
func (s *server) ListTeams(ctx context.Context, r issuerapi.ListTeamsRequestObject) (issuerapi.ListTeamsResponseObject, error) {
	p, _ := asking(ctx)
	q := postgres.TeamQuery{Scope: p.Scope}
	var err error
	if q.Page, err = pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor); err != nil {
		return nil, err
	}
	if q.Order, err = recordOrder(r.Params.Sort); err != nil {
		return nil, err
	}
	if q.Name, err = filter("name", r.Params.Name); err != nil {
		return nil, err
	}
	found, err := s.store.Teams(ctx, q)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListTeams200JSONResponse{
		Data: make([]issuerapi.Team, len(found.Rows)), Total: found.Total,
		Page: q.Page.Number, PerPage: q.Page.Size, NextCursor: next(found.Next),
	}
	for i := range found.Rows {
		out.Data[i] = team(&found.Rows[i])
	}
	return out, nil
}

// CreateTeam implements the operation of that name.
func (s *server) CreateTeam(ctx context.Context, r issuerapi.CreateTeamRequestObject) (issuerapi.CreateTeamResponseObject, error) {
	p, origin := asking(ctx)
	b := r.Body
	t, err := s.organisation.AddTeam(ctx, p, origin, value(b.ID), organisation.TeamUpdate{
		Name: &b.Name, Description: b.Description, Email: b.Email, Members: members(b.Members),
	})
	if err != nil {
		return nil, err
	}
	return issuerapi.CreateTeam201JSONResponse{
		Body: team(&t), Headers: issuerapi.CreateTeam201ResponseHeaders{ETag: httpx.ETag(t.Revision)},
	}, nil
}

// GetTeam implements the operation of that name.
func (s *server) GetTeam(ctx context.Context, r issuerapi.GetTeamRequestObject) (issuerapi.GetTeamResponseObject, error) {
	if err := known("team", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	t, err := s.store.Team(ctx, p.Scope, r.ID)
	if err != nil {
		return nil, err
	}
	return issuerapi.GetTeam200JSONResponse{
		Body: team(&t), Headers: issuerapi.GetTeam200ResponseHeaders{ETag: httpx.ETag(t.Revision)},
	}, nil
}

// UpdateTeam implements the operation of that name.
func (s *server) UpdateTeam(ctx context.Context, r issuerapi.UpdateTeamRequestObject) (issuerapi.UpdateTeamResponseObject, error) {
	if err := known("team", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	b := r.Body
	t, err := s.organisation.ChangeTeam(ctx, p, origin, r.ID, organisation.TeamUpdate{
		Name: b.Name, Description: b.Description, Email: b.Email, Members: members(b.Members),
	}, seen(r.Params.IfMatch))
	if err != nil {
		return nil, err
	}
	return issuerapi.UpdateTeam200JSONResponse{
		Body: team(&t), Headers: issuerapi.UpdateTeam200ResponseHeaders{ETag: httpx.ETag(t.Revision)},
	}, nil
}

// DeleteTeam implements the operation of that name.
func (s *server) DeleteTeam(ctx context.Context, r issuerapi.DeleteTeamRequestObject) (issuerapi.DeleteTeamResponseObject, error) {
	if err := known("team", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.organisation.RemoveTeam(ctx, p, origin, r.ID); err != nil {
		return nil, err
	}
	return issuerapi.DeleteTeam204Response{}, nil
}

func members(given *[]issuerapi.TeamMember) *[]organisation.Member {
	if given == nil {
		return nil
	}
	out := make([]organisation.Member, len(*given))
	for i, m := range *given {
		out[i] = organisation.Member{Name: m.Name, Email: m.Email}
	}
	return &out
}

func team(t *organisation.Team) issuerapi.Team {
	out := issuerapi.Team{
		ID: t.ID, Name: t.Name, Description: t.Description, Email: t.Email, Members: make([]issuerapi.TeamMember, len(t.Members)),
		CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC(),
	}
	for i, m := range t.Members {
		out.Members[i] = issuerapi.TeamMember{Name: m.Name, Email: m.Email}
	}
	return out
}
