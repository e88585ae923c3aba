// Package deployment asks the deployment service what the issuer's copy of its targets cannot tell: a target that was
// made a moment ago, whose event is still under way, and the groups of an agent.
package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

const maxAnswer = 256 << 10

// Targets finds targets. Make it with NewTargets.
type Targets struct{ client *http.Client }

// NewTargets returns Targets over a connection.
func NewTargets(nc *nats.Conn) *Targets {
	return &Targets{client: &http.Client{Transport: natshttp.NewTransport(nc)}}
}

// Find implements [issuance.Targets]. While deployment does not answer its error is Unavailable: whether there is such
// a target is then not known, and no reason to refuse a request for good.
func (t *Targets) Find(ctx context.Context, id string) (issuance.Target, error) {
	var found deploymentapi.Target
	there, err := t.get(ctx, "getTarget", "targets/"+url.PathEscape(id), "target "+id, &found)
	if err != nil || !there {
		return issuance.Target{ID: id}, err
	}
	return issuance.Target{ID: id, AgentID: found.AgentID, Enabled: found.Enabled}, nil
}

// GroupsOf implements [issuance.Targets]. An agent that is not known is in no group.
func (t *Targets) GroupsOf(ctx context.Context, agentID string) ([]string, error) {
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	_, err := t.get(ctx, "listGroupsOfAgent", "agents/"+url.PathEscape(agentID)+"/groups", "groups of agent "+agentID, &list)
	if err != nil {
		return nil, err
	}
	groups := make([]string, len(list.Data))
	for i, g := range list.Data {
		groups[i] = g.ID
	}
	return groups, nil
}

// get asks a question, and reports whether what it is about exists.
func (t *Targets) get(ctx context.Context, operation, path, what string, into any) (bool, error) {
	ctx = natshttp.WithRoute(ctx, natshttp.Route{Service: "deployment", Operation: operation})
	ctx = authn.NewContext(ctx, authn.System("issuer"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://deployment/api/v1/"+path, nil)
	if err != nil {
		return false, fmt.Errorf("ask for %s: %w", what, err)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return false, fault.Wrap(err, fault.Unavailable, "%s cannot be looked up at the moment", what)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return false, nil
	default:
		return false, fault.Wrap(fmt.Errorf("deployment answers %s", resp.Status), fault.Unavailable, "%s cannot be looked up at the moment", what)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return false, fmt.Errorf("read %s: %w", what, err)
	}
	return true, nil
}
