// Package deployment asks the deployment service what the issuer does not know by itself: a target that was made a moment
// ago, whose event is still under way, and in which groups an agent is.
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

const maxTarget = 256 << 10

// Targets finds targets and the groups of their agents. Make it with NewTargets; it is safe for concurrent use.
type Targets struct {
	client *http.Client
	memory memory
}

// NewTargets returns Targets over a connection.
func NewTargets(nc *nats.Conn) *Targets {
	return &Targets{client: &http.Client{Transport: natshttp.NewTransport(nc)}}
}

// Find implements [issuance.Targets]. While deployment does not answer its error is Unavailable: whether there is such
// a target is then not known, and no reason to refuse a request for good.
func (t *Targets) Find(ctx context.Context, id string) (issuance.Target, error) {
	ctx = natshttp.WithRoute(ctx, natshttp.Route{Service: "deployment", Operation: "getTarget"})
	ctx = authn.NewContext(ctx, authn.System("issuer"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://deployment/api/v1/targets/"+url.PathEscape(id), nil)
	if err != nil {
		return issuance.Target{}, fmt.Errorf("ask for target %s: %w", id, err)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return issuance.Target{}, fault.Wrap(err, fault.Unavailable, "target %s cannot be looked up at the moment", id)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return issuance.Target{ID: id}, nil
	default:
		return issuance.Target{}, fault.Wrap(fmt.Errorf("deployment answers %s", resp.Status), fault.Unavailable,
			"target %s cannot be looked up at the moment", id)
	}
	var found deploymentapi.Target
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxTarget)).Decode(&found); err != nil {
		return issuance.Target{}, fmt.Errorf("read target %s: %w", id, err)
	}
	return issuance.Target{ID: id, AgentID: found.AgentID, Enabled: found.Enabled}, nil
}
