package registry

import (
	"context"
	"fmt"
	"reflect"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/record"
	"github.com/certctl/certctl/services/issuer/internal/standing"
)

// Given is an issuer that the environment sets up. Its settings are the environment's to change; its secrets are read
// from there and not stored. Its name, and whether it is enabled, are its record's.
type Given struct {
	ID, Name, Type string
	// Config holds the secrets too.
	Config map[string]any
	// Source names the variables, as in CERTCTL_STEPCA_*.
	Source string
}

// Provide makes or updates the records of the issuers that the environment sets up. Its error says which setting is
// wrong.
func (s *Service) Provide(ctx context.Context) error {
	for _, g := range s.registry.settings.Given {
		if err := s.provide(ctx, g); err != nil {
			return fmt.Errorf("set up issuer %s from %s: %w", g.ID, g.Source, err)
		}
	}
	return nil
}

func (s *Service) provide(ctx context.Context, g Given) error {
	kind, ok := s.registry.kinds[g.Type]
	if !ok {
		return fault.New(fault.Unavailable, "this build has no connector for %s", g.Type)
	}
	now := s.clock.Now()
	i := Issuer{ID: g.ID, Name: g.Name, Type: g.Type, Enabled: true, Limits: standing.Limits{Window: usualWindow}, CreatedAt: now, UpdatedAt: now, Revision: 1}
	made, err := kind.Make(i, g.Config)
	if err != nil {
		return err
	}
	i.Config, i.SignsCRL = s.registry.shown(g.Type, made.Config), made.SignsCRL
	origin := issuance.Origin{Actor: "issuer"}
	err = s.store.AddIssuer(ctx, i, made.Key, Told{Changed: s.fact(i.changed(event.Created, record.Changes(nil, i.fields())), origin, now)})
	if fault.CodeOf(err) != fault.Conflict {
		return err
	}
	_, err = s.store.ChangeIssuer(ctx, authn.Scope{}, g.ID, func(before Issuer) (Issuer, *Told, error) {
		if before.Type != g.Type {
			return before, nil, fault.New(fault.Conflict, "there is an issuer of that id already, of type %s", before.Type)
		}
		if before.Sealed == nil && reflect.DeepEqual(before.Config, i.Config) {
			return before, nil, nil
		}
		after := before
		after.Config, after.Sealed, after.UpdatedAt = i.Config, nil, now
		after.Revision++
		return after, &Told{Changed: s.fact(after.changed(event.Updated, record.Changes(before.fields(), after.fields())), origin, now)}, nil
	})
	return err
}

// given is what the environment sets up as an issuer, false if it does not.
func (r *Registry) given(i *Issuer) (Given, bool) {
	g, ok := r.settings.Given[i.ID]
	return g, ok && g.Type == i.Type
}

// Source names the variables of the environment that set an issuer up, empty if none do.
func (s *Service) Source(i *Issuer) string {
	g, ok := s.registry.given(i)
	if !ok {
		return ""
	}
	return g.Source
}

// mayReconfigure refuses settings that are the environment's, unless they are as they are.
func (r *Registry) mayReconfigure(i Issuer, update map[string]any) error {
	g, ok := r.given(&i)
	if !ok {
		return nil
	}
	for setting, v := range update {
		if !reflect.DeepEqual(i.Config[setting], v) {
			return fault.InvalidFields(fault.Field{Name: "config." + setting, Reason: "is set by the environment (" + g.Source + ") and changed there"})
		}
	}
	return nil
}
