package natshttp

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/nats-io/nats.go"
)

// Options says what is served.
type Options struct {
	// Service is the name in the subjects svc.<service>.v1.<operation>.
	Service string
	// Version is the service's semantic version, shown by "nats micro". Empty is "0.0.0".
	Version string
	// Operations are the operation ids answered here.
	Operations []string
	// MaxInFlight bounds the requests being handled; more are answered 503 at once. Zero is 256.
	MaxInFlight int
	// Log receives panics and refusals. Nil is slog.Default.
	Log *slog.Logger
}

// Serve answers requests with h until ctx ends, then finishes the requests in hand and returns nil.
func Serve(ctx context.Context, nc *nats.Conn, opts Options, h http.Handler) error { return nil }
