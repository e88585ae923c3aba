// Package outgoing puts what the service has to say into the form of its outbox:
// events for account CORE, orders to agents and leaves for account EDGE. The rows are
// written by whoever makes the change that they tell of, in its transaction.
//
// An event's id is made here and lives as long as the event. An order gets a new id
// each time it is sent, so that a repeat is not taken for a duplicate on the way; the
// agent knows a repeat by its job and attempt.
package outgoing

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

const (
	source      = "/certctl/deployment"
	typeOrder   = "certctl.agent.command.v1"
	typeAccount = "certctl.site.account.v1"
	jsonText    = "application/json"
)

// Cause is what a message follows from.
type Cause struct {
	// ID is the message that it follows from directly, if any.
	ID string
	// Correlation is shared by all that follows from one request.
	Correlation string
	TraceParent string
	// Actor is who asked for it, if somebody did.
	Actor string
}

// CauseOf is the request that a context belongs to.
func CauseOf(ctx context.Context) Cause {
	return Cause{Correlation: obs.RequestID(ctx), TraceParent: obs.TraceParent(ctx), Actor: authn.FromContext(ctx).ID}
}

// After is the message that is being handled.
func After(m bus.Message) Cause {
	correlation := m.CorrelationID
	if correlation == "" {
		correlation = m.ID
	}
	return Cause{ID: m.ID, Correlation: correlation, TraceParent: m.TraceParent, Actor: m.Actor}
}

// Event is the message that tells of a fact.
func Event(e event.Event, revision int64, now time.Time, cause Cause) (outbox.Message, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return outbox.Message{}, fmt.Errorf("encode %s: %w", event.Type(e), err)
	}
	aggregate, of, _ := e.About()
	return encode(subject.StreamEvents, bus.Message{
		Subject: event.Subject(e), ID: id.New("ev-"), Type: event.Type(e), Source: source, Entity: aggregate + "/" + of,
		Time: now, ContentType: jsonText, AggVersion: revision,
		CorrelationID: cause.Correlation, CausationID: cause.ID, TraceParent: cause.TraceParent, Actor: cause.Actor,
		Body: body,
	})
}

// Order is the message that brings an order to its agent. The stream forgets it when
// the agent would refuse it.
func Order(o rollout.Order, now time.Time) (outbox.Message, error) {
	return encode(subject.StreamAgentCommands, bus.Message{
		Subject: subject.AgentCommand(o.SiteID, o.AgentID, o.Verb, o.JobID),
		ID:      id.New("cmd-"), Type: typeOrder, Source: source, Entity: "job/" + o.JobID,
		Time: now, ContentType: jsonText, Attempt: o.Attempt, ExpiresAt: o.ExpiresAt, TTL: o.ExpiresAt.Sub(now),
		CorrelationID: o.Correlation, TraceParent: o.TraceParent,
		Body: o.Signed,
	})
}

// Account is the message that brings a site the newest JWT of its account. It bears no
// signature of the platform: the operator's, in the JWT, is the proof that the leaf
// wants.
func Account(siteID, accountJWT string, revision int64, now time.Time) (outbox.Message, error) {
	body, err := json.Marshal(command.RevokedUsers{AccountJWT: accountJWT})
	if err != nil {
		return outbox.Message{}, fmt.Errorf("encode account of %s: %w", siteID, err)
	}
	return encode(subject.StreamAgentCommands, bus.Message{
		Subject: subject.AgentCommand(siteID, subject.AgentSite, command.VerbAccount, strconv.FormatInt(revision, 10)),
		ID:      id.New("cmd-"), Type: typeAccount, Source: source, Entity: "site/" + siteID,
		Time: now, ContentType: jsonText, AggVersion: revision,
		Body: body,
	})
}

func encode(stream string, m bus.Message) (outbox.Message, error) {
	msg, err := m.Encode()
	if err != nil {
		return outbox.Message{}, err
	}
	return outbox.Message{ID: m.ID, Stream: stream, Subject: msg.Subject, Header: msg.Header, Body: msg.Data}, nil
}
