package api

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// ListAgentGroupMembers implements the operation.
func (a *Answers) ListAgentGroupMembers(ctx context.Context, r deploymentapi.ListAgentGroupMembersRequestObject) (deploymentapi.ListAgentGroupMembersResponseObject, error) {
	if err := known("agent group", r.ID); err != nil {
		return nil, err
	}
	wanted := r.Params.Membership
	if wanted != nil && !wanted.Valid() {
		return nil, fault.InvalidFields(fault.Field{Name: "membership", Reason: "must be one of include, exclude, dynamic"})
	}
	g, err := postgres.Group(ctx, a.DB, r.ID)
	if err != nil {
		return nil, err
	}
	candidates, err := postgres.GroupCandidates(ctx, a.DB, g)
	if err != nil {
		return nil, err
	}
	list := deploymentapi.ListAgentGroupMembers200JSONResponse{Data: []deploymentapi.Agent{}, Page: 1}
	for _, c := range candidates {
		why := deploymentapi.Membership(g.Member(c.Agent, c.ByHand))
		if why == "" || wanted == nil && why == deploymentapi.MembershipExclude || wanted != nil && why != *wanted {
			continue
		}
		shown := shownAgent(c.Agent)
		shown.Membership = &why
		list.Data = append(list.Data, shown)
	}
	list.Total, list.PerPage = int64(len(list.Data)), len(list.Data)
	return list, nil
}

// SetAgentGroupMember implements the operation.
func (a *Answers) SetAgentGroupMember(ctx context.Context, r deploymentapi.SetAgentGroupMemberRequestObject) (deploymentapi.SetAgentGroupMemberResponseObject, error) {
	said := r.Body.MembershipType
	if !said.Valid() {
		return nil, fault.InvalidFields(fault.Field{Name: "membership_type", Reason: "must be include or exclude"})
	}
	err := a.changeMember(ctx, r.ID, r.AgentID, func(tx pgx.Tx, now time.Time) (was, is fleet.Membership, err error) {
		agents, err := postgres.Agents(ctx, tx, []string{r.AgentID})
		if err != nil {
			return "", "", err
		}
		switch agent, found := agents[r.AgentID]; {
		case !found:
			return "", "", fault.New(fault.NotFound, "there is no agent %s", r.AgentID)
		case agent.Status == fleet.Retired:
			return "", "", fault.New(fault.Conflict, "agent %s is retired and belongs to no group", r.AgentID)
		}
		is = fleet.Membership(said)
		was, err = postgres.SetMember(ctx, tx, r.ID, r.AgentID, is, now)
		return was, is, err
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.SetAgentGroupMember200JSONResponse{MembershipType: said}, nil
}

// RemoveAgentGroupMember implements the operation.
func (a *Answers) RemoveAgentGroupMember(ctx context.Context, r deploymentapi.RemoveAgentGroupMemberRequestObject) (deploymentapi.RemoveAgentGroupMemberResponseObject, error) {
	err := a.changeMember(ctx, r.ID, r.AgentID, func(tx pgx.Tx, _ time.Time) (was, is fleet.Membership, err error) {
		was, err = postgres.RemoveMember(ctx, tx, r.ID, r.AgentID)
		return was, "", err
	})
	if err != nil {
		return nil, err
	}
	return deploymentapi.RemoveAgentGroupMember204Response{}, nil
}

// changeMember changes what is said by hand of an agent and a group. It is a change of
// the group: its revision grows.
func (a *Answers) changeMember(ctx context.Context, groupID, agentID string, do func(pgx.Tx, time.Time) (was, is fleet.Membership, err error)) error {
	if err := known("agent", agentID); err != nil {
		return err
	}
	return a.changeGroup(ctx, groupID, func(tx pgx.Tx, g *fleet.Group) (event.Changes, error) {
		now := a.Clock.Now()
		was, is, err := do(tx, now)
		if err != nil || was == is {
			return nil, err
		}
		g.Revision++
		g.UpdatedAt = now
		name := "members." + agentID
		return event.Changes{name: {Before: orNil(was), After: orNil(is)}}, postgres.UpdateGroup(ctx, tx, *g)
	})
}

func orNil(m fleet.Membership) any {
	if m == "" {
		return nil
	}
	return string(m)
}

// ListGroupsOfAgent implements the operation.
func (a *Answers) ListGroupsOfAgent(ctx context.Context, r deploymentapi.ListGroupsOfAgentRequestObject) (deploymentapi.ListGroupsOfAgentResponseObject, error) {
	if err := known("agent", r.ID); err != nil {
		return nil, err
	}
	agent, err := postgres.Agent(ctx, a.DB, r.ID)
	if err != nil {
		return nil, err
	}
	claims, err := postgres.GroupClaims(ctx, a.DB, agent.ID)
	if err != nil {
		return nil, err
	}
	list := deploymentapi.ListGroupsOfAgent200JSONResponse{Data: []deploymentapi.AgentGroup{}, Page: 1}
	for _, c := range claims {
		if why := c.Group.Member(agent, c.ByHand); why == fleet.Include || why == fleet.Dynamic {
			list.Data = append(list.Data, shownGroup(c.Group))
		}
	}
	list.Total, list.PerPage = int64(len(list.Data)), len(list.Data)
	return list, nil
}
