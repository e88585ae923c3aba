// Package entry turns what is heard on the bus into audit events: it names the action,
// the resource and the actor, and leaves out what is bulky or of no use to an auditor.
package entry

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/services/audit/internal/chain"
)

// actions names events as the API has always named them. An event that is not listed is
// called <aggregate>_<event>.
var actions = map[string]string{
	event.Type(event.CertificateRequested{}):    "certificate_created",
	event.Type(event.CertificateKeyRequested{}): "renewal_awaiting_csr",
	event.Type(event.CertificateRenewed{}):      "renewal_job_completed",
	event.Type(event.CertificateFailed{}):       "renewal_job_failed",
	event.Type(event.DeploymentStarted{}):       "deployment_job_dispatched",
	event.Type(event.DeploymentCompleted{}):     "deployment_job_completed",
	event.Type(event.DeploymentFailed{}):        "deployment_job_failed",
	event.Type(event.DeploymentRolledBack{}):    "deployment_rolled_back",
	event.Type(event.TargetCreated{}):           "create_target",
	event.Type(event.TargetUpdated{}):           "update_target",
	event.Type(event.TargetDeleted{}):           "delete_target",
}

const renewalTriggered = "renewal_triggered"

// FromMessage returns the events that a message tells of: one, or one for each call if
// it is a record of calls. Sequence and hash are for the chain to set.
func FromMessage(m bus.Message) ([]chain.Event, error) {
	if m.Type == event.Type(event.APICalled{}) {
		return fromCalls(m)
	}
	return fromEvent(m)
}

func fromEvent(m bus.Message) ([]chain.Event, error) {
	var body map[string]any
	if err := json.Unmarshal(m.Body, &body); err != nil {
		return nil, fmt.Errorf("read the body of %s: %w", m.Type, err)
	}
	aggregate, id, _ := strings.Cut(m.Entity, "/")
	e := chain.Event{
		ID: "ae-" + m.ID, Action: action(m.Type, body), ResourceType: aggregate, ResourceID: id, At: m.Time,
	}
	e.Actor, e.ActorType = actor(m)
	for field := range body {
		// Certificates and requests are kept by their owner; their fingerprints stay here.
		if strings.HasSuffix(field, "_pem") || field == "pem_chain" {
			delete(body, field)
		}
	}
	body["event"] = m.Type
	if m.CorrelationID != "" {
		body["correlation_id"] = m.CorrelationID
	}
	details, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("write the details of %s: %w", m.Type, err)
	}
	e.Details = string(details)
	return []chain.Event{e}, nil
}

func action(ceType string, body map[string]any) string {
	if renewal, _ := body["renewal"].(bool); renewal && ceType == event.Type(event.CertificateRequested{}) {
		return renewalTriggered
	}
	if a, ok := actions[ceType]; ok {
		return a
	}
	name := strings.TrimPrefix(ceType, "certctl.")
	if i := strings.LastIndex(name, ".v"); i > 0 {
		name = name[:i]
	}
	return strings.ReplaceAll(name, ".", "_")
}

// actor is who caused the event: the principal if one is known, an agent, or the
// service that acted of its own accord.
func actor(m bus.Message) (name, kind string) {
	switch {
	case strings.HasPrefix(m.Actor, "agent-"):
		return m.Actor, "Agent"
	case m.Actor != "":
		return m.Actor, "User"
	default:
		return strings.TrimPrefix(m.Source, "/certctl/"), "System"
	}
}

func fromCalls(m bus.Message) ([]chain.Event, error) {
	var called event.APICalled
	if err := json.Unmarshal(m.Body, &called); err != nil {
		return nil, fmt.Errorf("read a record of calls: %w", err)
	}
	events := make([]chain.Event, len(called.Calls))
	for i, c := range called.Calls {
		details, err := json.Marshal(struct {
			Method    string `json:"method"`
			Path      string `json:"path"`
			Operation string `json:"operation,omitempty"`
			BodyHash  string `json:"body_hash,omitempty"`
			Status    int    `json:"status"`
			Latency   int64  `json:"latency_ms"`
			RequestID string `json:"request_id"`
			Remote    string `json:"remote_address,omitempty"`
		}{c.Method, c.Path, c.Operation, c.BodyHash, c.Status, c.LatencyMillis, c.RequestID, c.RemoteAddress})
		if err != nil {
			return nil, fmt.Errorf("write the details of a call: %w", err)
		}
		at, err := time.Parse(time.RFC3339Nano, c.At)
		if err != nil {
			at = m.Time
		}
		events[i] = chain.Event{
			ID: "ae-" + c.RequestID, Actor: c.Actor, ActorType: c.ActorType,
			Action: "api_" + strings.ToLower(c.Method), ResourceType: "api", ResourceID: c.Path,
			Details: string(details), At: at,
		}
	}
	return events, nil
}
