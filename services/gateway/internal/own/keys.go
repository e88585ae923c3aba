package own

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/gatewayapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/gateway/internal/apikey"
)

// What a key is, in the words of the contract.
const (
	active  gatewayapi.APIKeyStatus = "Active"
	expired gatewayapi.APIKeyStatus = "Expired"
	revoked gatewayapi.APIKeyStatus = "Revoked"
)

// defaultOverlap is for how long a key stays good beside its successor.
const defaultOverlap = 24 * time.Hour

// ListAPIKeys implements the operation.
func (a Answers) ListAPIKeys(ctx context.Context, r gatewayapi.ListAPIKeysRequestObject) (gatewayapi.ListAPIKeysResponseObject, error) {
	size, err := page.Size(r.Params.PerPage)
	if err != nil {
		return nil, err
	}
	number, err := page.Number(r.Params.Page, size)
	if err != nil {
		return nil, err
	}
	asked := apikey.Asked{
		Size: size, Offset: (number - 1) * size, WithRevoked: r.Params.IncludeRevoked != nil && *r.Params.IncludeRevoked,
	}
	if r.Params.Cursor != nil && *r.Params.Cursor != "" {
		cursor, err := page.Parse(*r.Params.Cursor)
		if err != nil {
			return nil, err
		}
		asked.Behind = &cursor
	}
	keys, total, err := a.Keys.List(ctx, authn.FromContext(ctx), asked)
	if err != nil {
		return nil, err
	}
	list := gatewayapi.ListAPIKeys200JSONResponse{Data: []gatewayapi.APIKey{}, Total: total, Page: number, PerPage: size}
	if len(keys) > size {
		keys = keys[:size]
		next := page.At(keys[size-1].CreatedAt, keys[size-1].ID).String()
		list.NextCursor = &next
	}
	for _, k := range keys {
		list.Data = append(list.Data, a.shown(k, ""))
	}
	return list, nil
}

// GetAPIKey implements the operation.
func (a Answers) GetAPIKey(ctx context.Context, r gatewayapi.GetAPIKeyRequestObject) (gatewayapi.GetAPIKeyResponseObject, error) {
	k, err := a.Keys.Get(ctx, authn.FromContext(ctx), r.ID)
	if err != nil {
		return nil, err
	}
	return gatewayapi.GetAPIKey200JSONResponse{
		Body: a.shown(k, ""), Headers: gatewayapi.GetAPIKey200ResponseHeaders{ETag: httpx.ETag(k.Revision)},
	}, nil
}

// CreateAPIKey implements the operation.
func (a Answers) CreateAPIKey(ctx context.Context, r gatewayapi.CreateAPIKeyRequestObject) (gatewayapi.CreateAPIKeyResponseObject, error) {
	wanted := apikey.Key{
		Name: r.Body.Name, Roles: roles(r.Body.Roles), Scope: scope(r.Body.Scope), ExpiresAt: moment(r.Body.ExpiresAt),
	}
	k, secret, err := a.Keys.Create(ctx, authn.FromContext(ctx), wanted)
	if err != nil {
		return nil, err
	}
	return gatewayapi.CreateAPIKey201JSONResponse{
		Body: a.shown(k, secret), Headers: gatewayapi.CreateAPIKey201ResponseHeaders{ETag: httpx.ETag(k.Revision)},
	}, nil
}

// UpdateAPIKey implements the operation: what is left out stays.
func (a Answers) UpdateAPIKey(ctx context.Context, r gatewayapi.UpdateAPIKeyRequestObject) (gatewayapi.UpdateAPIKeyResponseObject, error) {
	k, err := a.Keys.Update(ctx, authn.FromContext(ctx), r.ID, func(k *apikey.Key) error {
		if err := httpx.Match(r.Params.IfMatch, k.Revision); err != nil {
			return err
		}
		merge(k, r.Body)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gatewayapi.UpdateAPIKey200JSONResponse{
		Body: a.shown(k, ""), Headers: gatewayapi.UpdateAPIKey200ResponseHeaders{ETag: httpx.ETag(k.Revision)},
	}, nil
}

func merge(k *apikey.Key, with *gatewayapi.APIKeyUpdate) {
	if with.Name != nil {
		k.Name = *with.Name
	}
	if with.Roles != nil {
		k.Roles = roles(*with.Roles)
	}
	if with.Scope != nil {
		k.Scope = scope(with.Scope)
	}
	if with.ExpiresAt != nil {
		k.ExpiresAt = moment(with.ExpiresAt)
	}
	if with.NeverExpires != nil && *with.NeverExpires {
		k.ExpiresAt = nil
	}
}

// RotateAPIKey implements the operation.
func (a Answers) RotateAPIKey(ctx context.Context, r gatewayapi.RotateAPIKeyRequestObject) (gatewayapi.RotateAPIKeyResponseObject, error) {
	overlap := defaultOverlap
	if r.Body != nil && r.Body.OverlapSeconds != nil {
		// Cut to what cannot overflow; the store refuses what is out of bounds.
		seconds := min(max(*r.Body.OverlapSeconds, -1), int(2*apikey.MaxOverlap/time.Second))
		overlap = time.Duration(seconds) * time.Second
	}
	k, secret, err := a.Keys.Rotate(ctx, authn.FromContext(ctx), r.ID, overlap)
	if err != nil {
		return nil, err
	}
	return gatewayapi.RotateAPIKey200JSONResponse{
		Body: a.shown(k, secret), Headers: gatewayapi.RotateAPIKey200ResponseHeaders{ETag: httpx.ETag(k.Revision)},
	}, nil
}

// RevokeAPIKey implements the operation.
func (a Answers) RevokeAPIKey(ctx context.Context, r gatewayapi.RevokeAPIKeyRequestObject) (gatewayapi.RevokeAPIKeyResponseObject, error) {
	if err := a.Keys.Revoke(ctx, authn.FromContext(ctx), r.ID); err != nil {
		return nil, err
	}
	return gatewayapi.RevokeAPIKey204Response{}, nil
}

// shown is what the API tells of a key; the secret only to who has just made it.
func (a Answers) shown(k apikey.Key, secret string) gatewayapi.APIKey {
	now := a.Clock.Now()
	out := gatewayapi.APIKey{
		ID: k.ID, Name: k.Name, Prefix: k.Prefix, Roles: []gatewayapi.Role{}, Scope: shownScope(k.Scope),
		Status: active, CreatedBy: k.CreatedBy, CreatedAt: k.CreatedAt, UpdatedAt: k.UpdatedAt,
		ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, LastUsedAt: k.LastUsedAt,
	}
	if secret != "" {
		out.Key = &secret
	}
	for _, role := range k.Roles {
		out.Roles = append(out.Roles, gatewayapi.Role(role))
	}
	switch {
	case k.RevokedAt != nil:
		out.Status = revoked
	case !k.Good(now):
		out.Status = expired
	case k.PreviousUntil != nil && now.Before(*k.PreviousUntil):
		out.PreviousUntil = k.PreviousUntil
	}
	return out
}

func roles(given []gatewayapi.Role) []string {
	out := make([]string, len(given))
	for i, role := range given {
		out[i] = string(role)
	}
	return out
}

// moment is a time as Postgres keeps it.
func moment(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	cut := t.UTC().Truncate(time.Microsecond)
	return &cut
}

func scope(given *gatewayapi.Scope) authn.Scope {
	if given == nil {
		return authn.Scope{}
	}
	list := func(p *[]string) []string {
		if p == nil {
			return nil
		}
		return *p
	}
	return authn.Scope{
		Teams: list(given.Teams), Environments: list(given.Environments), Issuers: list(given.Issuers), Profiles: list(given.Profiles),
	}
}

func shownScope(s authn.Scope) gatewayapi.Scope {
	list := func(ids []string) *[]string {
		if ids == nil {
			return nil
		}
		return &ids
	}
	return gatewayapi.Scope{
		Teams: list(s.Teams), Environments: list(s.Environments), Issuers: list(s.Issuers), Profiles: list(s.Profiles),
	}
}
