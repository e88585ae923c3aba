package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/fault"
)

// request asks something of the leaf, or of the platform through it. What the other
// side refuses is a fault with its code; when nobody answers it is fault.Unavailable.
func request[T any](ctx context.Context, nc *nats.Conn, subject string, body any) (T, error) {
	var reply command.Reply[T]
	var zero T
	data, err := json.Marshal(body)
	if err != nil {
		return zero, fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, subject, data)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return zero, fault.Wrap(err, fault.Unavailable, "the leaf does not answer requests yet")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return zero, fault.Wrap(err, fault.Unavailable, "the leaf did not answer in time")
	case err != nil:
		return zero, fault.Wrap(err, fault.Unavailable, "the leaf could not be asked")
	}
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return zero, fmt.Errorf("decode reply: %w", err)
	}
	switch {
	case reply.Fault != nil:
		return zero, fault.New(fault.Code(reply.Fault.Code), "%s", reply.Fault.Message)
	case reply.Body == nil:
		return zero, nil
	}
	return *reply.Body, nil
}
