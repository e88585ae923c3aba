package edge

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/fault"
)

// Ping asks whether any replica of a service answers on the bus.
func Ping(ctx context.Context, nc *nats.Conn, service string) error {
	_, err := nc.RequestWithContext(ctx, "$SRV.PING."+service, nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return fault.New(fault.Unavailable, "no replica of %s is running", service)
	}
	return err
}
