// Package issuer asks the issuer service for what only a CA's key can do.
package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
)

// timeout is for one signature, which may be a remote CA's.
const timeout = 10 * time.Second

// Client asks over the bus.
type Client struct {
	NC *nats.Conn
}

// SignCRL has a list signed and returns its DER.
func (c Client) SignCRL(ctx context.Context, list command.SignCRL) ([]byte, error) {
	signed, err := ask[command.SignedCRL](ctx, c.NC, "signCRL", list)
	return signed.DER, err
}

// IssueOCSPResponder has a responder certified and returns its chain in PEM.
func (c Client) IssueOCSPResponder(ctx context.Context, request command.IssueOCSPResponder) (string, error) {
	responder, err := ask[command.OCSPResponder](ctx, c.NC, "issueOCSPResponder", request)
	return responder.PEMChain, err
}

func ask[T any](ctx context.Context, nc *nats.Conn, operation string, request any) (T, error) {
	var none T
	body, err := json.Marshal(request)
	if err != nil {
		return none, fmt.Errorf("encode %s: %w", operation, err)
	}
	// A request that is sent while the connection is down would only wait for its end.
	if !nc.IsConnected() {
		return none, fault.New(fault.Unavailable, "the message bus is away")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, subject.Operation("issuer", operation), body)
	if errors.Is(err, nats.ErrNoResponders) {
		return none, fault.New(fault.Unavailable, "the issuer service is away")
	}
	if err != nil {
		return none, fault.Wrap(err, fault.Unavailable, "the issuer service did not answer")
	}
	var reply command.Reply[T]
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return none, fmt.Errorf("read the answer to %s: %w", operation, err)
	}
	if reply.Fault != nil {
		return none, fault.New(fault.Code(reply.Fault.Code), "%s", reply.Fault.Message)
	}
	if reply.Body == nil {
		return none, fmt.Errorf("the answer to %s is empty", operation)
	}
	return *reply.Body, nil
}
