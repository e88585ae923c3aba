package api

import (
	"context"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/issuer/internal/lint"
	"github.com/certctl/certctl/services/issuer/internal/profile"
	"github.com/certctl/certctl/services/issuer/internal/regulation"
)

// matching holds an update to the revision in the header If-Match.
func matching(ifMatch *string) regulation.Match {
	return func(revision int64) error { return httpx.Match(ifMatch, revision) }
}

// ListProfiles implements the operation of that name.
func (s *server) ListProfiles(ctx context.Context, r issuerapi.ListProfilesRequestObject) (issuerapi.ListProfilesResponseObject, error) {
	p, _ := asking(ctx)
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	list, err := s.store.Profiles(ctx, p.Scope, at)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListProfiles200JSONResponse{
		Data: make([]issuerapi.Profile, len(list.Rows)), Total: list.Total, Page: at.Number, PerPage: at.Size, NextCursor: next(list.Next),
	}
	for i, row := range list.Rows {
		out.Data[i] = profileModel(row)
	}
	return out, nil
}

// CreateProfile implements the operation of that name.
func (s *server) CreateProfile(ctx context.Context, r issuerapi.CreateProfileRequestObject) (issuerapi.CreateProfileResponseObject, error) {
	p, origin := asking(ctx)
	b := r.Body
	spec := profile.Spec{ID: value(b.ID), Name: b.Name}
	assign(&spec.Description, b.Description)
	mergeProfile(&spec, &issuerapi.ProfileUpdate{
		AllowedKeyAlgorithms: b.AllowedKeyAlgorithms, MaxTTLSeconds: b.MaxTTLSeconds, AllowedEkus: b.AllowedEkus,
		RequiredSanPatterns: b.RequiredSanPatterns, SpiffeURIPattern: b.SpiffeURIPattern,
		AllowShortLived: b.AllowShortLived, Enabled: b.Enabled,
		LintRuleset: b.LintRuleset, LintMode: b.LintMode, LintIgnore: b.LintIgnore, ReuseKey: b.ReuseKey,
	})
	made, err := s.rules.CreateProfile(ctx, p, origin, spec)
	if err != nil {
		return nil, err
	}
	return issuerapi.CreateProfile201JSONResponse{
		Body: profileModel(made), Headers: issuerapi.CreateProfile201ResponseHeaders{ETag: httpx.ETag(made.Revision)},
	}, nil
}

// GetProfile implements the operation of that name.
func (s *server) GetProfile(ctx context.Context, r issuerapi.GetProfileRequestObject) (issuerapi.GetProfileResponseObject, error) {
	if err := known("profile", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	found, err := s.store.Profile(ctx, p.Scope, r.ID)
	if err != nil {
		return nil, err
	}
	return issuerapi.GetProfile200JSONResponse{
		Body: profileModel(found), Headers: issuerapi.GetProfile200ResponseHeaders{ETag: httpx.ETag(found.Revision)},
	}, nil
}

// UpdateProfile implements the operation of that name.
func (s *server) UpdateProfile(ctx context.Context, r issuerapi.UpdateProfileRequestObject) (issuerapi.UpdateProfileResponseObject, error) {
	if err := known("profile", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	made, err := s.rules.UpdateProfile(ctx, p, origin, r.ID, matching(r.Params.IfMatch), func(spec *profile.Spec) {
		mergeProfile(spec, r.Body)
	})
	if err != nil {
		return nil, err
	}
	return issuerapi.UpdateProfile200JSONResponse{
		Body: profileModel(made), Headers: issuerapi.UpdateProfile200ResponseHeaders{ETag: httpx.ETag(made.Revision)},
	}, nil
}

// DeleteProfile implements the operation of that name.
func (s *server) DeleteProfile(ctx context.Context, r issuerapi.DeleteProfileRequestObject) (issuerapi.DeleteProfileResponseObject, error) {
	if err := known("profile", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	if err := s.rules.DeleteProfile(ctx, p, origin, r.ID); err != nil {
		return nil, err
	}
	return issuerapi.DeleteProfile204Response{}, nil
}

// assign sets what is given.
func assign[T any](into, given *T) {
	if given != nil {
		*into = *given
	}
}

func mergeProfile(spec *profile.Spec, b *issuerapi.ProfileUpdate) {
	assign(&spec.Name, b.Name)
	assign(&spec.Description, b.Description)
	if b.AllowedKeyAlgorithms != nil {
		spec.Keys = make([]profile.Key, len(*b.AllowedKeyAlgorithms))
		for i, k := range *b.AllowedKeyAlgorithms {
			spec.Keys[i] = profile.Key{Algorithm: k.Algorithm, MinSize: k.MinSize}
		}
	}
	if b.MaxTTLSeconds != nil {
		spec.MaxTTL = seconds(*b.MaxTTLSeconds)
	}
	assign(&spec.EKUs, b.AllowedEkus)
	assign(&spec.RequiredSANs, b.RequiredSanPatterns)
	assign(&spec.SPIFFE, b.SpiffeURIPattern)
	assign(&spec.AllowShortLived, b.AllowShortLived)
	assign(&spec.Enabled, b.Enabled)
	if b.LintRuleset != nil {
		spec.LintRuleset = lint.Ruleset(*b.LintRuleset)
	}
	if b.LintMode != nil {
		spec.LintMode = profile.LintMode(*b.LintMode)
	}
	assign(&spec.LintIgnore, b.LintIgnore)
	assign(&spec.ReuseKey, b.ReuseKey)
}

// seconds is a duration, or one that is refused where it would overflow.
func seconds(n int64) time.Duration {
	if n < 0 || n > int64(1<<62/time.Second) {
		return -1
	}
	return time.Duration(n) * time.Second
}

func profileModel(p *profile.Profile) issuerapi.Profile {
	keys := make([]issuerapi.ProfileKeyAlgorithm, len(p.Keys))
	for i, k := range p.Keys {
		keys[i] = issuerapi.ProfileKeyAlgorithm{Algorithm: k.Algorithm, MinSize: k.MinSize}
	}
	return issuerapi.Profile{
		ID: p.ID, Name: p.Name, Description: p.Description, AllowedKeyAlgorithms: keys,
		MaxTTLSeconds: int64(p.MaxTTL / time.Second), AllowedEkus: list(p.EKUs), RequiredSanPatterns: list(p.RequiredSANs),
		SpiffeURIPattern: p.SPIFFE, AllowShortLived: p.AllowShortLived, Enabled: p.Enabled,
		LintRuleset: issuerapi.LintRuleset(p.LintRuleset), LintMode: issuerapi.LintMode(p.LintMode),
		LintIgnore: list(p.LintIgnore), ReuseKey: p.ReuseKey,
		CreatedAt: p.CreatedAt.UTC(), UpdatedAt: p.UpdatedAt.UTC(),
	}
}
