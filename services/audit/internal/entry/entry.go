// Package entry turns what is heard on the bus into audit events: it names the action,
// the resource and the actor, and leaves out what is bulky or of no use to an auditor.
//
// An event that this build does not know is put on record all the same, under the name
// that it bears. Text from outside is cut and cleaned so that it can always be stored:
// no caller can word a request so that its record, or its neighbours', is lost.
package entry

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/services/audit/internal/chain"
)

// actions names events as the API has always named them. An event that is not listed is
// called <aggregate>_<event>.
var actions = map[string]string{
	event.Type(event.CertificateRequested{}):           "certificate_created",
	event.Type(event.CertificateKeyReleased{}):         "certificate_key_released",
	event.Type(event.CertificateKeyRequested{}):        "renewal_awaiting_csr",
	event.Type(event.CertificateRenewed{}):             "renewal_job_completed",
	event.Type(event.CertificateFailed{}):              "renewal_job_failed",
	event.Type(event.CertificateDeploymentRequested{}): "deployment_triggered",
	event.Type(event.DeploymentStarted{}):              "deployment_job_dispatched",
	event.Type(event.DeploymentCompleted{}):            "deployment_job_completed",
	event.Type(event.DeploymentFailed{}):               "deployment_job_failed",
	event.Type(event.DeploymentRolledBack{}):           "deployment_rolled_back",
	event.Type(event.TargetCreated{}):                  "create_target",
	event.Type(event.TargetUpdated{}):                  "update_target",
	event.Type(event.TargetDeleted{}):                  "delete_target",
	event.Type(event.PolicyViolated{}):                 "policy_violation_detected",
	event.Type(event.CertificateExpiring{}):            "expiration_alert_sent",
}

// Types that are looked for in every message.
var (
	apiCalled            = event.Type(event.APICalled{})
	certificateRequested = event.Type(event.CertificateRequested{})
)

const (
	renewalTriggered = "renewal_triggered"
	renewalCreated   = "renewal_job_created"
)

// verbs are what was done to a record, as actions spell it.
var verbs = map[string]string{event.Created: "create", event.Updated: "update", event.Deleted: "delete"}

// records names the kinds of records that people set up. Their actions are
// <verb>_<kind>.
var records = map[string]string{
	event.Type(event.TeamChanged{}):          "team",
	event.Type(event.OwnerChanged{}):         "owner",
	event.Type(event.IssuerChanged{}):        "issuer",
	event.Type(event.ProfileChanged{}):       "profile",
	event.Type(event.PolicyChanged{}):        "policy",
	event.Type(event.RenewalPolicyChanged{}): "renewal_policy",
	event.Type(event.BlockedKeyChanged{}):    "blocked_key",
	event.Type(event.AgentGroupChanged{}):    "agent_group",
	event.Type(event.APIKeyChanged{}):        "api_key",
}

var errNotJSON = errors.New("it is not JSON")

// policyRule is how actions on policies have always been named: policy_rule_<verb>.
const policyRule = "policy_rule_"

// FromMessage returns the events that a message tells of: one, or one for each call if
// it is a record of calls. Sequence and hash are for the chain to set.
func FromMessage(m bus.Message) ([]chain.Event, error) {
	if m.Type == apiCalled {
		return fromCalls(m)
	}
	return fromEvent(m)
}

func fromEvent(m bus.Message) ([]chain.Event, error) {
	told, err := readBody(m.Body)
	if err != nil {
		return nil, fmt.Errorf("the body of %s: %w", m.Type, err)
	}
	aggregate, id, _ := strings.Cut(m.Entity, "/")
	if kind, ok := records[m.Type]; ok {
		aggregate = kind
	}
	e := chain.Event{
		ID: "ae-" + m.ID, Action: storable(action(m.Type, told)), ResourceType: storable(aggregate), ResourceID: storable(id), At: m.Time,
	}
	e.Actor, e.ActorType = actor(m, told)
	details, err := keep(m, told).write()
	if err != nil {
		return nil, fmt.Errorf("write the details of %s: %w", m.Type, err)
	}
	e.Details = string(details)
	return []chain.Event{e}, nil
}

// keep returns what is kept of what an event tells, and which one it is. The fields of told are used up.
func keep(m bus.Message, told body) body {
	kept := slices.DeleteFunc(told, func(f field) bool {
		// The version that a change of targets repeats is on record by its own event.
		return f.name == "newest" || bulky(f.name)
	})
	for i := range kept {
		kept[i].value = clean(kept[i].name, kept[i].value)
	}
	kept = append(kept, field{"event", quoted(m.Type)})
	if m.CorrelationID != "" {
		kept = append(kept, field{"correlation_id", quoted(m.CorrelationID)})
	}
	return kept.sorted()
}

func action(ceType string, told body) string {
	if ceType == certificateRequested && string(told.get("renewal")) == "true" {
		if string(told.get("automatic")) == "true" {
			return renewalCreated
		}
		return renewalTriggered
	}
	if a, ok := actions[ceType]; ok {
		return a
	}
	if kind, ok := records[ceType]; ok {
		return recordAction(kind, told.text("verb"))
	}
	name := strings.TrimPrefix(ceType, "certctl.")
	if i := strings.LastIndex(name, ".v"); i > 0 {
		name = name[:i]
	}
	return strings.ReplaceAll(name, ".", "_")
}

// recordAction names what was done to a record. A verb that this build does not know is
// a newer publisher's, and stands as it is.
func recordAction(kind, did string) string {
	if did == "" {
		did = "changed"
	}
	if kind == "policy" {
		return policyRule + did
	}
	verb, ok := verbs[did]
	if !ok {
		return kind + "_" + did
	}
	return verb + "_" + kind
}

func fromCalls(m bus.Message) ([]chain.Event, error) {
	var called event.APICalled
	if err := json.Unmarshal(m.Body, &called); err != nil {
		return nil, fmt.Errorf("read a record of calls: %w", err)
	}
	events := make([]chain.Event, len(called.Calls))
	for i, c := range called.Calls {
		method, path := storable(c.Method), storable(c.Path)
		details, err := json.Marshal(struct {
			Method    string `json:"method"`
			Path      string `json:"path"`
			Operation string `json:"operation,omitempty"`
			BodyHash  string `json:"body_hash,omitempty"`
			Status    int    `json:"status"`
			Latency   int64  `json:"latency_ms"`
			RequestID string `json:"request_id"`
			Remote    string `json:"remote_address,omitempty"`
		}{method, path, c.Operation, c.BodyHash, c.Status, c.LatencyMillis, c.RequestID, c.RemoteAddress})
		if err != nil {
			return nil, fmt.Errorf("write the details of a call: %w", err)
		}
		at, err := time.Parse(time.RFC3339Nano, c.At)
		if err != nil {
			at = m.Time
		}
		kind := c.ActorType
		if kind != kindSystem && kind != kindAgent {
			kind = kindUser
		}
		events[i] = chain.Event{
			ID: "ae-" + c.RequestID, Actor: storable(c.Actor), ActorType: kind,
			Action: "api_" + strings.ToLower(method), ResourceType: "api", ResourceID: path,
			Details: string(details), At: at,
		}
	}
	return events, nil
}

// maxText is what a row of an index can hold, and to spare.
const maxText = 1 << 10

// storable is s as Postgres takes it: UTF-8, without NUL, short enough to be indexed.
func storable(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

func quoted(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		panic("entry: a string always encodes: " + err.Error())
	}
	return b
}
