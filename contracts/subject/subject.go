// Package subject builds every name on the bus: subjects, streams and durable
// consumers. Nothing else spells one.
//
// Each variable token of a subject goes through [Token], because a dot in a
// token would add a level and a '*' or '>' would become a wildcard: either would
// carry a message past the permissions that the servers enforce. DNS names,
// addresses and serial numbers are therefore never tokens; identifiers are.
//
// The grammar, most filtered-on token first:
//
//	certctl.evt.<aggregate>.v1.<event>                   domain events, account CORE
//	certctl.audit.<kind>.<source>                        audit records, CORE
//	certctl.dlq.<service>.<consumer>                     what a consumer gave up on, CORE
//	svc.<service>.v1.<operation>                         request and reply, CORE
//	certctl.replicas.<service>.<matter>                  what a service's replicas tell each other, stored nowhere, CORE
//	certctl.agent.cmd.<site>.<agent>.<verb>.<job>        commands to agents, EDGE, hub side
//	certctl.agent.evt.<site>.<agent>.<kind>.<job>        agents' reports, EDGE, hub side
//	certctl.agent.rpc.<site>.<agent>.<verb>              agents' questions, EDGE, hub side
//	site.{cmd,evt,rpc}.<agent>...                        the same three inside one site
//
// The two sides of EDGE differ on purpose: were a subject bound to a stream on
// both ends of a leaf-node link, both streams would store it. The leaf's relay
// carries messages across, and takes the site from its own identity and the agent
// from the subject, which the server has checked.
//
// Which certificate or target an event is about stands in its header ce-subject, not in
// its subject: a server keeps every subject of a stream in memory for as long as one
// message has it (docs/adr/0012-events-without-ids.md).
package subject

import (
	"fmt"
	"strings"
)

// Streams of the hub and of a leaf.
const (
	StreamEvents        = "EVT"
	StreamAudit         = "AUDIT"
	StreamDeadLetters   = "DLQ"
	StreamAdvisories    = "ADVISORY"
	StreamAgentCommands = "AGENT_CMD"
	StreamAgentReports  = "AGENT_EVT"
	StreamSiteCommands  = "SITE_CMD"
	StreamSiteReports   = "SITE_EVT"
)

// DomainHub is the hub's JetStream domain. A leaf's is its site's id.
const DomainHub = "hub"

// Durable consumers of the services. A site's durable on AGENT_CMD and an agent's
// durable on SITE_CMD bear the id of the site or the agent.
const (
	ConsumerIssuerEvents      = "issuer-evt"
	ConsumerDeploymentEvents  = "deploy-evt"
	ConsumerDeploymentReports = "deploy-agent-evt"
	ConsumerRevocationEvents  = "revocation-evt"
	ConsumerAuditEvents       = "audit-evt"
	ConsumerAuditRecords      = "audit-records"
	ConsumerSiteRelay         = "relay"
)

// Everything that a stream or a subscription of the hub filters on.
const (
	AllEvents        = "certctl.evt.>"
	AllAudit         = "certctl.audit.>"
	AllDeadLetters   = "certctl.dlq.>"
	AllAgentCommands = "certctl.agent.cmd.>"
	AllAgentReports  = "certctl.agent.evt.>"
	AllAgentRequests = "certctl.agent.rpc.>"
	AllSiteCommands  = "site.cmd.>"
	AllSiteReports   = "site.evt.>"
	AllSiteRequests  = "site.rpc.>"
)

// Reserved words that stand where an agent's id stands.
const (
	// AgentSite marks the leaf itself: its own questions and what it is told.
	AgentSite = "site"
	// AgentEnrol marks a host that has a one-time token and no identity yet.
	AgentEnrol = "enrol"
)

// KindDeploy is the kind of report that tells of keys, requests and deployments.
const KindDeploy = "deploy"

// Token reports whether s may stand as one token of a subject: a lower-case letter or digit, and up to 63 more of these and
// of '_' and '-'. Every subject that is built or read is asked about, so this is no regular expression.
func Token(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '_' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// join builds a subject, and panics on a bad token: ids are checked where they
// enter the system, so a bad one here is a bug that must not reach the bus.
func join(prefix string, tokens ...string) string {
	for _, t := range tokens {
		if !Token(t) {
			panic(fmt.Sprintf("subject: %q cannot be a token of %s", t, prefix))
		}
	}
	return prefix + "." + strings.Join(tokens, ".")
}

// eventVersion stands where events had the id of their aggregate before, which filters
// and permissions match alike.
const eventVersion = "v1"

// Event is the subject of all domain events of one kind.
func Event(aggregate, event string) string {
	return join("certctl.evt", aggregate, eventVersion, event)
}

// Events filters the events of one aggregate, or one kind of them if event is not
// empty. It matches those of before events were without ids, too.
func Events(aggregate, event string) string {
	if event == "" {
		return join("certctl.evt", aggregate) + ".>"
	}
	return join("certctl.evt", aggregate) + ".*." + event
}

// AuditRecord is where a source publishes its audit records of one kind, such as
// "api".
func AuditRecord(kind, source string) string { return join("certctl.audit", kind, source) }

// DeadLetter is where a service's consumer leaves what it gave up on.
func DeadLetter(service, consumer string) string { return join("certctl.dlq", service, consumer) }

// Operation is the request/reply subject of one operation of a service. Operation
// ids are lowerCamelCase, which no permission wildcard can hide in.
func Operation(service, operation string) string {
	if operation == "" || strings.ContainsAny(operation, ".*> \t\r\n") {
		panic(fmt.Sprintf("subject: %q cannot be an operation", operation))
	}
	return join("svc", service) + ".v1." + operation
}

// Operations filters every operation of a service.
func Operations(service string) string { return join("svc", service) + ".v1.>" }

// Answers filters the subjects by which a caller asks for the parts of an answer that is
// too long for one message.
func Answers(service string) string { return join("svc", service) + ".v1._stream.>" }

// Replicas is where the replicas of a service tell each other of a matter. Who is not
// there does not hear it.
func Replicas(service, matter string) string { return join("certctl.replicas", service, matter) }

// AgentCommand is a command to one agent, on the hub.
func AgentCommand(site, agent, verb, job string) string {
	return join("certctl.agent.cmd", site, agent, verb, job)
}

// AgentCommands filters what goes to one site, on the hub.
func AgentCommands(site string) string { return join("certctl.agent.cmd", site) + ".>" }

// AgentReport is an agent's report, on the hub.
func AgentReport(site, agent, kind, job string) string {
	return join("certctl.agent.evt", site, agent, kind, job)
}

// AgentReports filters what comes from one site, on the hub.
func AgentReports(site string) string { return join("certctl.agent.evt", site) + ".>" }

// AgentReportsOf filters one kind of report of all sites.
func AgentReportsOf(kind string) string { return "certctl.agent.evt.*.*." + kind + ".>" }

// AgentRequest is a question of an agent, on the hub.
func AgentRequest(site, agent, verb string) string {
	return join("certctl.agent.rpc", site, agent, verb)
}

// AgentRequests filters the questions of one site, on the hub.
func AgentRequests(site string) string { return join("certctl.agent.rpc", site) + ".>" }

// SiteCommand is a command to one agent, inside its site.
func SiteCommand(agent, verb, job string) string { return join("site.cmd", agent, verb, job) }

// SiteCommands filters what goes to one agent, inside its site.
func SiteCommands(agent string) string { return join("site.cmd", agent) + ".>" }

// SiteReport is an agent's report, inside its site.
func SiteReport(agent, kind, job string) string { return join("site.evt", agent, kind, job) }

// SiteReports filters what comes from one agent, inside its site.
func SiteReports(agent string) string { return join("site.evt", agent) + ".>" }

// SiteRequest is a question of an agent, inside its site.
func SiteRequest(agent, verb string) string { return join("site.rpc", agent, verb) }

// SiteRequests filters the questions of one agent, inside its site.
func SiteRequests(agent string) string { return join("site.rpc", agent) + ".>" }

// Inbox is the prefix of a principal's reply subjects. Each has its own, so that
// nobody can listen to the replies to another.
func Inbox(principal string) string {
	if !Token(principal) {
		panic(fmt.Sprintf("subject: %q cannot name an inbox", principal))
	}
	return "_INBOX_" + principal
}
