// Package order reads orders to this agent, and writes what the agent has to tell of
// them.
//
// An order is trusted for one reason only: it bears the signature of the platform's
// key that was pinned at enrolment, over bytes that name this agent and this site.
// The subject, the link and the leaf that brought it prove nothing here. An order that
// is not trusted is answered with nothing, since nothing in it can be believed.
package order

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/services/agent/internal/identity"
	"github.com/certctl/certctl/services/agent/internal/journal"
)

// ErrUntrusted says that nothing in an order can be believed.
var ErrUntrusted = errors.New("the order is not trusted")

// Order is an order that was checked.
type Order struct {
	command.AgentCommand
	// Signed is what it was read from.
	Signed command.Signed
	Origin
}

// Origin is what the message that brought an order says of itself. It is not signed,
// and is only handed on.
type Origin struct {
	// CauseID is the message's id.
	CauseID       string `json:"cause_id,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
	TraceParent   string `json:"trace_parent,omitempty"`
}

// Read checks an order. The error wraps ErrUntrusted.
func Read(signed command.Signed, from Origin, me identity.Identity) (Order, error) {
	if err := natsauth.VerifyCommand(me.PlatformKey, signed.Payload, signed.Signature); err != nil {
		return Order{}, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	o := Order{Signed: signed, Origin: from}
	if err := json.Unmarshal(signed.Payload, &o.AgentCommand); err != nil {
		return Order{}, fmt.Errorf("%w: decode: %w", ErrUntrusted, err)
	}
	if o.AgentID != me.AgentID || o.SiteID != me.SiteID {
		return Order{}, fmt.Errorf("%w: it is for %q of %q", ErrUntrusted, o.AgentID, o.SiteID)
	}
	if !subject.Token(o.JobID) || o.Attempt < 1 || o.ExpiresAt.IsZero() {
		return Order{}, fmt.Errorf("%w: job %q, attempt %d, expiry %s", ErrUntrusted, o.JobID, o.Attempt, o.ExpiresAt)
	}
	return o, nil
}

// Recall reads an order from the agent's own journal, where only orders are that were
// checked. The agent may have a new identity since.
func Recall(signed command.Signed, from Origin) (Order, error) {
	o := Order{Signed: signed, Origin: from}
	if err := json.Unmarshal(signed.Payload, &o.AgentCommand); err != nil {
		return Order{}, fmt.Errorf("recall order: %w", err)
	}
	return o, nil
}

// Key is what makes the order unique.
func (o Order) Key() journal.Key { return journal.Key{JobID: o.JobID, Attempt: o.Attempt} }

// Expired reports whether the order may no longer be begun.
func (o Order) Expired(now time.Time) bool { return !now.Before(o.ExpiresAt) }

// Report begins a report of the order.
func (o Order) Report(outcome string, at time.Time) command.AgentReport {
	return command.AgentReport{
		JobID: o.JobID, Attempt: o.Attempt, AgentID: o.AgentID, Verb: o.Verb, Outcome: outcome, At: at,
	}
}
