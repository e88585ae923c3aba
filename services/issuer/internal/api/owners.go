package api

import (
	"context"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/issuer/internal/organisation"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// ListOwners implements the operation of that name.
func (s *server) ListOwners(ctx context.Context, r issuerapi.ListOwnersRequestObject) (issuerapi.ListOwnersResponseObject, error) {
	p, _ := asking(ctx)
	q := postgres.OwnerQuery{Scope: p.Scope}
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
	if q.TeamID, err = filter("team_id", r.Params.TeamID); err != nil {
		return nil, err
	}
	found, err := s.store.Owners(ctx, q)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListOwners200JSONResponse{
		Data: make([]issuerapi.Owner, len(found.Rows)), Total: found.Total,
		Page: q.Page.Number, PerPage: q.Page.Size, NextCursor: next(found.Next),
	}
	for i := range found.Rows {
		out.Data[i] = owner(&found.Rows[i])
	}
	return out, nil
}

// CreateOwner implements the operation of that name.
func (s *server) CreateOwner(ctx context.Context, r issuerapi.CreateOwnerRequestObject) (issuerapi.CreateOwnerResponseObject, error) {
	p, origin := asking(ctx)
	b := r.Body
	o, err := s.organisation.AddOwner(ctx, p, origin, value(b.ID), organisation.OwnerUpdate{Name: &b.Name, Email: b.Email, TeamID: b.TeamID})
	if err != nil {
		return nil, err
	}
	return issuerapi.CreateOwner201JSONResponse{
		Body: owner(&o), Headers: issuerapi.CreateOwner201ResponseHeaders{ETag: httpx.ETag(o.Revision)},
	}, nil
}

// GetOwner implements the operation of that name.
func (s *server) GetOwner(ctx context.Context, r issuerapi.GetOwnerRequestObject) (issuerapi.GetOwnerResponseObject, error) {
	if err := known("owner", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	o, err := s.store.Owner(ctx, p.Scope, r.ID)
	if err != nil {
		return nil, err
	}
	return issuerapi.GetOwner200JSONResponse{
		Body: owner(&o), Headers: issuerapi.GetOwner200ResponseHeaders{ETag: httpx.ETag(o.Revision)},
	}, nil
}

// UpdateOwner implements the operation of that name.
func (s *server) UpdateOwner(ctx context.Context, r issuerapi.UpdateOwnerRequestObject) (issuerapi.UpdateOwnerResponseObject, error) {
	if err := known("owner", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	b := r.Body
	o, err := s.organisation.ChangeOwner(ctx, p, origin, r.ID,
		organisation.OwnerUpdate{Name: b.Name, Email: b.Email, TeamID: b.TeamID}, seen(r.Params.IfMatch))
	if err != nil {
		return nil, err
	}
	return issuerapi.UpdateOwner200JSONResponse{
		Body: owner(&o), Headers: issuerapi.UpdateOwner200ResponseHeaders{ETag: httpx.ETag(o.Revision)},
	}, nil
}

// DeleteOwner implements the operation of that name.
func (s *server) DeleteOwner(ctx context.Context, r issuerapi.DeleteOwnerRequestObject) (issuerapi.DeleteOwnerResponseObject, error) {
	if err := known("owner", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.organisation.RemoveOwner(ctx, p, origin, r.ID); err != nil {
		return nil, err
	}
	return issuerapi.DeleteOwner204Response{}, nil
}

func owner(o *organisation.Owner) issuerapi.Owner {
	return issuerapi.Owner{
		ID: o.ID, Name: o.Name, Email: o.Email, TeamID: o.TeamID, CreatedAt: o.CreatedAt.UTC(), UpdatedAt: o.UpdatedAt.UTC(),
	}
}
