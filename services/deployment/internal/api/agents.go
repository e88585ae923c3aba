package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// mentioned is how many of the things that use something a refusal lists.
const mentioned = 10

// mention lists them, and says how many more there are.
func mention(ids []string, total int) string {
	text := strings.Join(ids, ", ")
	if more := total - len(ids); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// ListAgents implements the operation.
func (a *Answers) ListAgents(ctx context.Context, r deploymentapi.ListAgentsRequestObject) (deploymentapi.ListAgentsResponseObject, error) {
	w, place, err := askNewest(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	var f filters
	filter := postgres.AgentFilter{
		SiteID: f.id("site_id", r.Params.SiteID), OS: f.text("os", r.Params.Os),
		Version: f.text("version", r.Params.Version), Name: f.text("name", r.Params.Name),
	}
	if s := r.Params.Status; s != nil && *s != "" {
		if filter.Status = string(*s); !s.Valid() {
			f.refuse("status", "must be one of Online, Offline, Degraded, Retired")
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if filter.Search, err = postgres.AgentSearch.Ask(r.Params.Q, a.Clock.Now()); err != nil {
		return nil, err
	}
	agents, total, err := postgres.ListAgents(ctx, a.DB, filter, place)
	if err != nil {
		return nil, err
	}
	agents, next := cut(agents, w, func(a fleet.Agent) (time.Time, string) { return a.RegisteredAt, a.ID })
	return deploymentapi.ListAgents200JSONResponse{
		Data: shownAll(agents, shownAgent), Total: total, Page: w.number, PerPage: w.size, NextCursor: next,
	}, nil
}

// GetAgent implements the operation.
func (a *Answers) GetAgent(ctx context.Context, r deploymentapi.GetAgentRequestObject) (deploymentapi.GetAgentResponseObject, error) {
	if err := known("agent", r.ID); err != nil {
		return nil, err
	}
	agent, err := postgres.Agent(ctx, a.DB, r.ID)
	if err != nil {
		return nil, err
	}
	return deploymentapi.GetAgent200JSONResponse(shownAgent(agent)), nil
}

func shownAgent(a fleet.Agent) deploymentapi.Agent {
	return deploymentapi.Agent{
		ID: a.ID, Name: a.Name, Hostname: a.Hostname, Status: deploymentapi.AgentStatus(a.Status),
		LastHeartbeatAt: &a.HeardAt, RegisteredAt: a.RegisteredAt,
		Os: a.OS, Architecture: a.Architecture, IPAddress: a.IPAddress, Version: a.Version,
		SiteID: a.SiteID, PublicKey: &a.PublicKey, APIKeyHash: "",
	}
}

// RetireAgent implements the operation. The row is the promise: the key's revocation
// is asked for until it is had.
func (a *Answers) RetireAgent(ctx context.Context, r deploymentapi.RetireAgentRequestObject) (deploymentapi.RetireAgentResponseObject, error) {
	if err := shapes(ctx); err != nil {
		return nil, err
	}
	if err := known("agent", r.ID); err != nil {
		return nil, err
	}
	err := a.change(ctx, func(tx pgx.Tx) error {
		agent, err := postgres.LockAgent(ctx, tx, r.ID)
		if err != nil || agent.Status == fleet.Retired {
			return err
		}
		targets, total, err := postgres.TargetsOf(ctx, tx, agent.ID, mentioned)
		if err != nil {
			return err
		}
		if total > 0 {
			return fault.New(fault.Conflict, "agent %s looks after targets, which must be removed or given to another agent first: %s",
				agent.ID, mention(targets, total))
		}
		if err := a.Desk.Withdraw(ctx, tx, agent.ID, "agent "+agent.ID+" was retired", outgoing.CauseOf(ctx)); err != nil {
			return err
		}
		return postgres.RetireAgent(ctx, tx, agent.ID, a.Clock.Now())
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.RetireAgent204Response{}, nil
}

// CreateEnrolmentToken implements the operation.
func (a *Answers) CreateEnrolmentToken(ctx context.Context, r deploymentapi.CreateEnrolmentTokenRequestObject) (deploymentapi.CreateEnrolmentTokenResponseObject, error) {
	if err := shapes(ctx); err != nil {
		return nil, err
	}
	site, life := fleet.LocalSite, fleet.DefaultTokenLife
	if b := r.Body; b != nil {
		if b.SiteID != nil && *b.SiteID != "" {
			site = *b.SiteID
		}
		if b.TTLSeconds != nil {
			life = time.Duration(*b.TTLSeconds) * time.Second
			if *b.TTLSeconds > int(fleet.MaxTokenLife/time.Second) || life < fleet.MinTokenLife {
				return nil, fault.InvalidFields(fault.Field{Name: "ttl_seconds", Reason: "must be from 60 to 604800"})
			}
		}
	}
	if err := known("site", site); err != nil {
		return nil, err
	}
	token, text, err := a.Office.AgentToken(ctx, site, life)
	if err != nil {
		return nil, err
	}
	return deploymentapi.CreateEnrolmentToken201JSONResponse{ID: token.ID, Token: text, SiteID: token.SiteID, ExpiresAt: token.ExpiresAt}, nil
}
