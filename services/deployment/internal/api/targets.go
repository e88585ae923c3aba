package api

import (
	"context"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// ListTargets implements the operation.
func (a *Answers) ListTargets(ctx context.Context, r deploymentapi.ListTargetsRequestObject) (deploymentapi.ListTargetsResponseObject, error) {
	w, place, err := askNewest(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	var f filters
	filter := postgres.TargetFilter{
		AgentID: f.id("agent_id", r.Params.AgentID), Name: f.text("name", r.Params.Name), Enabled: r.Params.Enabled,
	}
	if kind := f.text("type", r.Params.Type); kind != "" {
		var known bool
		if filter.Type, known = fleet.TargetType(kind); !known {
			f.refuse("type", "must be one of NGINX, Apache, HAProxy, F5, IIS")
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	targets, total, err := postgres.ListTargets(ctx, a.DB, filter, place)
	if err != nil {
		return nil, err
	}
	targets, next := cut(targets, w, func(t fleet.Target) (time.Time, string) { return t.CreatedAt, t.ID })
	return deploymentapi.ListTargets200JSONResponse{
		Data: shownAll(targets, shownTarget), Total: total, Page: w.number, PerPage: w.size, NextCursor: next,
	}, nil
}

func shownTarget(t fleet.Target) deploymentapi.Target {
	return deploymentapi.Target{
		ID: t.ID, Name: t.Name, Type: t.Type, AgentID: t.AgentID, Config: t.Config, Enabled: t.Enabled,
		CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
	}
}

// told is what other services keep of a target.
func told(t fleet.Target) event.Target {
	return event.Target{TargetID: t.ID, Name: t.Name, Type: t.Type, AgentID: t.AgentID, Enabled: t.Enabled}
}

// GetTarget implements the operation.
func (a *Answers) GetTarget(ctx context.Context, r deploymentapi.GetTargetRequestObject) (deploymentapi.GetTargetResponseObject, error) {
	if err := known("target", r.ID); err != nil {
		return nil, err
	}
	t, err := postgres.Target(ctx, a.DB, r.ID)
	if err != nil {
		return nil, err
	}
	return deploymentapi.GetTarget200JSONResponse{
		Body: shownTarget(t), Headers: deploymentapi.GetTarget200ResponseHeaders{ETag: httpx.ETag(t.Revision)},
	}, nil
}

// CreateTarget implements the operation.
func (a *Answers) CreateTarget(ctx context.Context, r deploymentapi.CreateTargetRequestObject) (deploymentapi.CreateTargetResponseObject, error) {
	if err := shapes(ctx); err != nil {
		return nil, err
	}
	now := a.Clock.Now()
	t := fleet.Target{
		Name: r.Body.Name, Type: r.Body.Type, AgentID: r.Body.AgentID, Config: map[string]any{},
		Enabled: r.Body.Enabled == nil || *r.Body.Enabled, Revision: 1, CreatedAt: now, UpdatedAt: now,
	}
	if r.Body.Config != nil {
		t.Config = *r.Body.Config
	}
	var err error
	if t.ID, err = chosen(r.Body.ID, "tgt-"); err != nil {
		return nil, err
	}
	if err := fleet.CheckTarget(&t); err != nil {
		return nil, err
	}
	err = a.change(ctx, func(tx pgx.Tx) error {
		if err := serving(ctx, tx, t.AgentID); err != nil {
			return err
		}
		if err := postgres.InsertTarget(ctx, tx, t); err != nil {
			return err
		}
		return a.say(ctx, tx, event.TargetCreated{Target: told(t)}, t.Revision)
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.CreateTarget201JSONResponse{
		Body: shownTarget(t), Headers: deploymentapi.CreateTarget201ResponseHeaders{ETag: httpx.ETag(t.Revision)},
	}, nil
}

// serving checks that an agent can look after a target, and keeps it from being
// retired while tx lasts.
func serving(ctx context.Context, tx pgx.Tx, agentID string) error {
	refuse := func(reason string) error {
		return fault.InvalidFields(fault.Field{Name: "agent_id", Reason: reason})
	}
	if !id.Valid(agentID) {
		return refuse("is no id of an agent")
	}
	agents, err := postgres.Agents(ctx, tx, []string{agentID})
	if err != nil {
		return err
	}
	switch agent, found := agents[agentID]; {
	case !found:
		return refuse("there is no agent " + agentID)
	case agent.Status == fleet.Retired:
		return refuse("agent " + agentID + " is retired")
	}
	return nil
}

// UpdateTarget implements the operation: what is left out stays, within the config
// too; a key of it that is null goes.
func (a *Answers) UpdateTarget(ctx context.Context, r deploymentapi.UpdateTargetRequestObject) (deploymentapi.UpdateTargetResponseObject, error) {
	if err := shapes(ctx); err != nil {
		return nil, err
	}
	if err := known("target", r.ID); err != nil {
		return nil, err
	}
	var t fleet.Target
	err := a.change(ctx, func(tx pgx.Tx) error {
		var err error
		if t, err = postgres.LockTarget(ctx, tx, r.ID); err != nil {
			return err
		}
		if err := httpx.Match(r.Params.IfMatch, t.Revision); err != nil {
			return err
		}
		merge(&t, r.Body)
		if err := fleet.CheckTarget(&t); err != nil {
			return err
		}
		if r.Body.AgentID != nil {
			if err := serving(ctx, tx, t.AgentID); err != nil {
				return err
			}
		}
		t.Revision++
		t.UpdatedAt = a.Clock.Now()
		if err := postgres.UpdateTarget(ctx, tx, t); err != nil {
			return err
		}
		return a.say(ctx, tx, event.TargetUpdated{Target: told(t)}, t.Revision)
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.UpdateTarget200JSONResponse{
		Body: shownTarget(t), Headers: deploymentapi.UpdateTarget200ResponseHeaders{ETag: httpx.ETag(t.Revision)},
	}, nil
}

func merge(t *fleet.Target, with *deploymentapi.UpdateTargetJSONRequestBody) {
	if with.Name != nil {
		t.Name = *with.Name
	}
	if with.AgentID != nil {
		t.AgentID = *with.AgentID
	}
	if with.Enabled != nil {
		t.Enabled = *with.Enabled
	}
	if with.Config != nil {
		maps.Copy(t.Config, *with.Config)
		maps.DeleteFunc(t.Config, func(_ string, value any) bool { return value == nil })
	}
}

// DeleteTarget implements the operation.
func (a *Answers) DeleteTarget(ctx context.Context, r deploymentapi.DeleteTargetRequestObject) (deploymentapi.DeleteTargetResponseObject, error) {
	if err := shapes(ctx); err != nil {
		return nil, err
	}
	if err := known("target", r.ID); err != nil {
		return nil, err
	}
	err := a.change(ctx, func(tx pgx.Tx) error {
		t, err := postgres.LockTarget(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		uses, total, err := postgres.UsesOfTarget(ctx, tx, t.ID, mentioned)
		if err != nil {
			return err
		}
		if total > 0 {
			return fault.New(fault.Conflict, "target %s is in use by %s", t.ID, mention(uses, total))
		}
		if err := postgres.DeleteTarget(ctx, tx, t.ID); err != nil {
			return err
		}
		return a.say(ctx, tx, event.TargetDeleted{TargetID: t.ID}, t.Revision+1)
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.DeleteTarget204Response{}, nil
}
