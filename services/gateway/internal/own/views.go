package own

import (
	"context"

	"github.com/certctl/certctl/contracts/httpapi/gatewayapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/gateway/internal/view"
)

// ListViews implements the operation.
func (a Answers) ListViews(ctx context.Context, r gatewayapi.ListViewsRequestObject) (gatewayapi.ListViewsResponseObject, error) {
	size, err := page.Size(r.Params.PerPage)
	if err != nil {
		return nil, err
	}
	number, err := page.Number(r.Params.Page, size)
	if err != nil {
		return nil, err
	}
	asked := view.Asked{Size: size, Offset: (number - 1) * size}
	if r.Params.Resource != nil && *r.Params.Resource != "" {
		asked.Resource = (*string)(r.Params.Resource)
	}
	if r.Params.Cursor != nil && *r.Params.Cursor != "" {
		cursor, err := page.Parse(*r.Params.Cursor)
		if err != nil {
			return nil, err
		}
		asked.Behind = &cursor
	}
	caller := authn.FromContext(ctx).ID
	views, total, err := a.Views.List(ctx, caller, asked)
	if err != nil {
		return nil, err
	}
	list := gatewayapi.ListViews200JSONResponse{Data: []gatewayapi.View{}, Total: total, Page: number, PerPage: size}
	if len(views) > size {
		views = views[:size]
		next := page.At(views[size-1].CreatedAt, views[size-1].ID).String()
		list.NextCursor = &next
	}
	for _, v := range views {
		list.Data = append(list.Data, shownView(v, caller))
	}
	return list, nil
}

// GetView implements the operation.
func (a Answers) GetView(ctx context.Context, r gatewayapi.GetViewRequestObject) (gatewayapi.GetViewResponseObject, error) {
	caller := authn.FromContext(ctx).ID
	v, err := a.Views.Get(ctx, caller, r.ID)
	if err != nil {
		return nil, err
	}
	return gatewayapi.GetView200JSONResponse{
		Body: shownView(v, caller), Headers: gatewayapi.GetView200ResponseHeaders{ETag: httpx.ETag(v.Revision)},
	}, nil
}

// CreateView implements the operation.
func (a Answers) CreateView(ctx context.Context, r gatewayapi.CreateViewRequestObject) (gatewayapi.CreateViewResponseObject, error) {
	caller := authn.FromContext(ctx).ID
	v, err := a.Views.Create(ctx, caller, view.View{
		Name: r.Body.Name, Resource: string(r.Body.Resource), Query: r.Body.Query, Shared: r.Body.Shared != nil && *r.Body.Shared,
	})
	if err != nil {
		return nil, err
	}
	return gatewayapi.CreateView201JSONResponse{
		Body: shownView(v, caller), Headers: gatewayapi.CreateView201ResponseHeaders{ETag: httpx.ETag(v.Revision)},
	}, nil
}

// UpdateView implements the operation: what is left out stays.
func (a Answers) UpdateView(ctx context.Context, r gatewayapi.UpdateViewRequestObject) (gatewayapi.UpdateViewResponseObject, error) {
	caller := authn.FromContext(ctx).ID
	v, err := a.Views.Update(ctx, caller, r.ID, func(v *view.View) error {
		if err := httpx.Match(r.Params.IfMatch, v.Revision); err != nil {
			return err
		}
		if r.Body.Name != nil {
			v.Name = *r.Body.Name
		}
		if r.Body.Resource != nil {
			v.Resource = string(*r.Body.Resource)
		}
		if r.Body.Query != nil {
			v.Query = *r.Body.Query
		}
		if r.Body.Shared != nil {
			v.Shared = *r.Body.Shared
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gatewayapi.UpdateView200JSONResponse{
		Body: shownView(v, caller), Headers: gatewayapi.UpdateView200ResponseHeaders{ETag: httpx.ETag(v.Revision)},
	}, nil
}

// DeleteView implements the operation.
func (a Answers) DeleteView(ctx context.Context, r gatewayapi.DeleteViewRequestObject) (gatewayapi.DeleteViewResponseObject, error) {
	if err := a.Views.Delete(ctx, authn.FromContext(ctx).ID, r.ID); err != nil {
		return nil, err
	}
	return gatewayapi.DeleteView204Response{}, nil
}

func shownView(v view.View, caller string) gatewayapi.View {
	return gatewayapi.View{
		ID: v.ID, Name: v.Name, Resource: gatewayapi.ViewResource(v.Resource), Query: v.Query, Shared: v.Shared,
		Own: v.Principal == caller, CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt,
	}
}
