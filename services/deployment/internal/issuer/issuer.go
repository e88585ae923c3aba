// Package issuer asks the issuer what this service's copy of certificates cannot tell:
// it holds only those that have targets.
package issuer

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natshttp"
)

// Certificates looks certificates up. Make it with New.
type Certificates struct{ client *http.Client }

// New returns Certificates over a connection.
func New(nc *nats.Conn) *Certificates {
	return &Certificates{client: &http.Client{Transport: natshttp.NewTransport(nc)}}
}

// Check returns nil if there is a certificate that the caller of ctx may see, else
// NotFound. While the issuer does not answer it is Unavailable.
func (c *Certificates) Check(ctx context.Context, id string) error {
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
