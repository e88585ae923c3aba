package api

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// ListAgentGroups implements the operation.
func (a *Answers) ListAgentGroups(ctx context.Context, r deploymentapi.ListAgentGroupsRequestObject) (deploymentapi.ListAgentGroupsResponseObject, error) {
	w, place, err := askNewest(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	var f filters
	filter := postgres.GroupFilter{Name: f.text("name", r.Params.Name), Enabled: r.Params.Enabled}
	if err := f.err(); err != nil {
		return nil, err
	}
	groups, total, err := postgres.ListGroups(ctx, a.DB, filter, place)
	if err != nil {
		return nil, err
	}
	groups, next := cut(groups, w, func(g fleet.Group) (time.Time, string) { return g.CreatedAt, g.ID })
	return deploymentapi.ListAgentGroups200JSONResponse{
		Data: shownAll(groups, shownGroup), Total: total, Page: w.number, PerPage: w.size, NextCursor: next,
	}, nil
}

func shownGroup(g fleet.Group) deploymentapi.AgentGroup {
	return deploymentapi.AgentGroup{
		ID: g.ID, Name: g.Name, Description: g.Description, MatchOs: g.MatchOS, MatchArchitecture: g.MatchArchitecture,
		MatchIPCidr: g.MatchIPCIDR, MatchVersion: g.MatchVersion, Enabled: g.Enabled, CreatedAt: g.CreatedAt, UpdatedAt: g.UpdatedAt,
	}
}

// GetAgentGroup implements the operation.
func (a *Answers) GetAgentGroup(ctx context.Context, r deploymentapi.GetAgentGroupRequestObject) (deploymentapi.GetAgentGroupResponseObject, error) {
	if err := known("agent group", r.ID); err != nil {
		return nil, err
	}
	g, err := postgres.Group(ctx, a.DB, r.ID)
	if err != nil {
		return nil, err
	}
	return deploymentapi.GetAgentGroup200JSONResponse{
		Body: shownGroup(g), Headers: deploymentapi.GetAgentGroup200ResponseHeaders{ETag: httpx.ETag(g.Revision)},
	}, nil
}

// CreateAgentGroup implements the operation.
func (a *Answers) CreateAgentGroup(ctx context.Context, r deploymentapi.CreateAgentGroupRequestObject) (deploymentapi.CreateAgentGroupResponseObject, error) {
	if err := shapes(ctx); err != nil {
		return nil, err
	}
	now, b := a.Clock.Now(), r.Body
	g := fleet.Group{Enabled: true, Revision: 1, CreatedAt: now, UpdatedAt: now}
	mergeGroup(&g, &deploymentapi.AgentGroupUpdate{
		Name: &b.Name, Description: b.Description, MatchOs: b.MatchOs, MatchArchitecture: b.MatchArchitecture,
		MatchIPCidr: b.MatchIPCidr, MatchVersion: b.MatchVersion, Enabled: b.Enabled,
	})
	var err error
	if g.ID, err = chosen(b.ID, "ag-"); err != nil {
		return nil, err
	}
	if err := fleet.CheckGroup(&g); err != nil {
		return nil, err
	}
	err = a.change(ctx, func(tx pgx.Tx) error {
		if err := postgres.InsertGroup(ctx, tx, g); err != nil {
			return err
		}
		return a.sayGroup(ctx, tx, g, event.Created, changes(nil, fields(g)))
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.CreateAgentGroup201JSONResponse{
		Body: shownGroup(g), Headers: deploymentapi.CreateAgentGroup201ResponseHeaders{ETag: httpx.ETag(g.Revision)},
	}, nil
}

// UpdateAgentGroup implements the operation: what is left out stays.
func (a *Answers) UpdateAgentGroup(ctx context.Context, r deploymentapi.UpdateAgentGroupRequestObject) (deploymentapi.UpdateAgentGroupResponseObject, error) {
	var g fleet.Group
	err := a.changeGroup(ctx, r.ID, func(tx pgx.Tx, locked *fleet.Group) (event.Changes, error) {
		if err := httpx.Match(r.Params.IfMatch, locked.Revision); err != nil {
			return nil, err
		}
		before := fields(*locked)
		mergeGroup(locked, r.Body)
		if err := fleet.CheckGroup(locked); err != nil {
			return nil, err
		}
		locked.Revision++
		locked.UpdatedAt = a.Clock.Now()
		g = *locked
		return changes(before, fields(g)), postgres.UpdateGroup(ctx, tx, g)
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.UpdateAgentGroup200JSONResponse{
		Body: shownGroup(g), Headers: deploymentapi.UpdateAgentGroup200ResponseHeaders{ETag: httpx.ETag(g.Revision)},
	}, nil
}

func mergeGroup(g *fleet.Group, with *deploymentapi.AgentGroupUpdate) {
	for to, from := range map[*string]*string{
		&g.Name: with.Name, &g.Description: with.Description, &g.MatchOS: with.MatchOs,
		&g.MatchArchitecture: with.MatchArchitecture, &g.MatchIPCIDR: with.MatchIPCidr, &g.MatchVersion: with.MatchVersion,
	} {
		if from != nil {
			*to = *from
		}
	}
	if with.Enabled != nil {
		g.Enabled = *with.Enabled
	}
}

// DeleteAgentGroup implements the operation. What is limited to a group belongs to the
// issuer, who is asked; should it be limited to the group at this very moment, it holds
// for no agent.
func (a *Answers) DeleteAgentGroup(ctx context.Context, r deploymentapi.DeleteAgentGroupRequestObject) (deploymentapi.DeleteAgentGroupResponseObject, error) {
	if err := shapes(ctx); err != nil {
		return nil, err
	}
	if err := known("agent group", r.ID); err != nil {
		return nil, err
	}
	uses, total, err := a.Issuer.UsesOfGroup(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if total > 0 {
		return nil, fault.New(fault.Conflict, "policies are limited to agent group %s: %s", r.ID, mention(uses, int(total)))
	}
	err = a.change(ctx, func(tx pgx.Tx) error {
		g, err := postgres.LockGroup(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		if err := postgres.DeleteGroup(ctx, tx, g.ID); err != nil {
			return err
		}
		g.Revision++
		return a.sayGroup(ctx, tx, g, event.Deleted, changes(fields(g), nil))
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.DeleteAgentGroup204Response{}, nil
}

// changeGroup changes a group that is there, and tells what is different. A change of
// nothing is not told.
func (a *Answers) changeGroup(ctx context.Context, groupID string, do func(pgx.Tx, *fleet.Group) (event.Changes, error)) error {
	if err := shapes(ctx); err != nil {
		return err
	}
	if err := known("agent group", groupID); err != nil {
		return err
	}
	return a.change(ctx, func(tx pgx.Tx) error {
		g, err := postgres.LockGroup(ctx, tx, groupID)
		if err != nil {
			return err
		}
		different, err := do(tx, &g)
		if err != nil || len(different) == 0 {
			return err
		}
		return a.sayGroup(ctx, tx, g, event.Updated, different)
	})
}

func (a *Answers) sayGroup(ctx context.Context, tx pgx.Tx, g fleet.Group, verb string, different event.Changes) error {
	return a.say(ctx, tx, event.AgentGroupChanged{
		Record: event.Record{ID: g.ID, Name: g.Name, Verb: verb, Changes: different},
	}, g.Revision)
}

// fields are those of a group by their names in the API.
func fields(g fleet.Group) map[string]any {
	return map[string]any{
		"name": g.Name, "description": g.Description, "match_os": g.MatchOS, "match_architecture": g.MatchArchitecture,
		"match_ip_cidr": g.MatchIPCIDR, "match_version": g.MatchVersion, "enabled": g.Enabled,
	}
}

// changes are the fields that differ. Nil is a record that is not there.
func changes(before, after map[string]any) event.Changes {
	different := event.Changes{}
	for name, value := range before {
		if value != after[name] {
			different[name] = event.Change{Before: value, After: after[name]}
		}
	}
	for name, value := range after {
		if _, had := before[name]; !had {
			different[name] = event.Change{After: value}
		}
	}
	return different
}
