// Package issuer asks the issuer what this service cannot tell: of certificates it holds
// only those that have targets, and of policies none.
package issuer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natshttp"
)

// Issuer is asked. Make it with New.
type Issuer struct{ client *http.Client }

// New returns Issuer over a connection.
func New(nc *nats.Conn) *Issuer {
	return &Issuer{client: &http.Client{Transport: natshttp.NewTransport(nc)}}
}

// maxUses is how many of those are named that use a group, and maxList what such a list
// may be long.
const (
	maxUses = 10
	maxList = 1 << 20
)

// UsesOfGroup returns the ids of policies that are limited to a group, of each kind the
// first ten, and how many there are in all. While the issuer does not answer it is
// Unavailable.
func (c *Issuer) UsesOfGroup(ctx context.Context, groupID string) (ids []string, total int64, err error) {
	ctx = authn.NewContext(ctx, authn.System("deployment"))
	for _, kind := range []struct{ operation, path string }{
		{"listPolicies", "policies"}, {"listRenewalPolicies", "renewal-policies"},
	} {
		query := url.Values{"agent_group_id": {groupID}, "per_page": {strconv.Itoa(maxUses)}}
		of, all, err := c.list(ctx, kind.operation, "http://issuer/api/v1/"+kind.path+"?"+query.Encode())
		if err != nil {
			return nil, 0, err
		}
		ids, total = append(ids, of...), total+all
	}
	return ids, total, nil
}

func (c *Issuer) list(ctx context.Context, operation, address string) (ids []string, total int64, err error) {
	const away = "whether policies are limited to the group cannot be looked up at the moment"
	ctx = natshttp.WithRoute(ctx, natshttp.Route{Service: "issuer", Operation: operation})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, 0, fmt.Errorf("ask for policies: %w", err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, 0, fault.Wrap(err, fault.Unavailable, away)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fault.Wrap(fmt.Errorf("the issuer answers %s", resp.Status), fault.Unavailable, away)
	}
	var page struct {
		Data  []struct{ ID string }
		Total int64
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxList)).Decode(&page); err != nil {
		return nil, 0, fault.Wrap(err, fault.Unavailable, away)
	}
	for _, p := range page.Data {
		ids = append(ids, p.ID)
	}
	return ids, page.Total, nil
}

// Check returns nil if there is a certificate that the caller of ctx may see, else
// NotFound. While the issuer does not answer it is Unavailable.
func (c *Issuer) Check(ctx context.Context, id string) error {
	ctx = natshttp.WithRoute(ctx, natshttp.Route{Service: "issuer", Operation: "getCertificate"})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://issuer/api/v1/certificates/"+url.PathEscape(id), nil)
	if err != nil {
		return fmt.Errorf("ask for certificate %s: %w", id, err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "certificate %s cannot be looked up at the moment", id)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotFound:
		return fault.New(fault.NotFound, "there is no certificate %s", id)
	default:
		return fault.Wrap(fmt.Errorf("the issuer answers %s", resp.Status), fault.Unavailable,
			"certificate %s cannot be looked up at the moment", id)
	}
}
