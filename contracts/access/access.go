// Package access lists what each kind of principal of account EDGE may say and hear.
//
// The lists are templates of scoped signing keys: the server fills {{name()}} with
// the name in the principal's JWT, so that whoever holds a signing key can make
// principals of its kind and none with wider rights. A principal may publish and
// subscribe to what is listed and to nothing else.
//
// Both forms of acknowledgement subject are granted, the one servers use today
// ($JS.ACK.<stream>.<consumer>...) and the one that carries domain and account.
//
// A name comes from whoever holds the signing key, and may be forged: a wildcard as a
// name would match every agent. Denying {{name()}}.> undoes that, for a deny wins: a
// true name loses nothing by it, "*" loses everything, and ">" makes no valid subject
// and is refused. The words "site" and "enrol" stand where an agent's id stands, and
// are denied to agents.
package access

import "github.com/certctl/certctl/contracts/subject"

// Permissions are exact lists of subjects, which may hold wildcards.
type Permissions struct {
	Publish       []string
	DenyPublish   []string
	Subscribe     []string
	DenySubscribe []string
	// Responses is how many messages may be published to the reply subject of a
	// request that was received; none if zero, any number if negative.
	Responses int
}

const (
	name = "{{name()}}"
	// nameAsWildcard is denied to every principal.
	nameAsWildcard = name + ".>"
)

// Agent is one agent, at its leaf: its own work, its own reports, its own questions.
func Agent() Permissions {
	const commands = subject.StreamSiteCommands
	return Permissions{
		Publish: []string{
			"$JS.API.CONSUMER.MSG.NEXT." + commands + "." + name,
			"$JS.API.CONSUMER.INFO." + commands + "." + name,
			"$JS.ACK." + commands + "." + name + ".>",
			"$JS.ACK.*.*." + commands + "." + name + ".>",
			"site.evt." + name + ".>",
			"site.rpc." + name + ".>",
		},
		DenyPublish: []string{
			nameAsWildcard,
			"site.evt." + subject.AgentSite + ".>", "site.rpc." + subject.AgentSite + ".>",
			"site.evt." + subject.AgentEnrol + ".>", "site.rpc." + subject.AgentEnrol + ".>",
		},
		Subscribe:     []string{"_INBOX_" + name + ".>"},
		DenySubscribe: []string{nameAsWildcard},
	}
}

// Enrol is a host with a one-time token, at a leaf: it may only ask to enrol. The
// name is the token's id.
func Enrol() Permissions {
	return Permissions{
		Publish:       []string{"site.rpc." + subject.AgentEnrol + "." + name},
		DenyPublish:   []string{nameAsWildcard},
		Subscribe:     []string{"_INBOX_" + subject.AgentEnrol + "-" + name + ".>"},
		DenySubscribe: []string{nameAsWildcard},
	}
}

// Leaf is a site's leaf-node link, at the hub: the site's commands, its agents'
// reports, its agents' and its own questions. The name is the site's id.
func Leaf() Permissions {
	const commands = subject.StreamAgentCommands
	return Permissions{
		Publish:       append(hubCalls(commands), ackForms(commands)...),
		DenyPublish:   []string{nameAsWildcard},
		Subscribe:     []string{"_INBOX_" + name + ".>"},
		DenySubscribe: []string{nameAsWildcard},
	}
}

// Relay is the leaf's own connection to its embedded server, over which it runs the
// site's streams and carries messages between site and hub. It is good for
// connections inside the process only, so it opens nothing at the hub.
func Relay() Permissions {
	const commands = subject.StreamAgentCommands
	publish := append(hubCalls(commands), ackForms(commands)...)
	for _, stream := range []string{subject.StreamSiteCommands, subject.StreamSiteReports} {
		publish = append(
			publish,
			"$JS.API.STREAM.*."+stream,
			"$JS.API.CONSUMER.*."+stream+".>",
			"$JS.API.CONSUMER.MSG.NEXT."+stream+".>",
			"$JS.API.CONSUMER.DURABLE.CREATE."+stream+".>",
			"$JS.ACK."+stream+".>",
			"$JS.ACK.*.*."+stream+".>",
		)
	}
	return Permissions{
		Publish:     append(publish, "$JS.API.INFO", "site.cmd.>"),
		DenyPublish: []string{nameAsWildcard},
		Subscribe: []string{
			"_INBOX_" + name + ".>",
			subject.AllSiteRequests,
		},
		DenySubscribe: []string{nameAsWildcard},
		Responses:     1,
	}
}

func hubCalls(stream string) []string {
	return []string{
		"$JS." + subject.DomainHub + ".API.CONSUMER.MSG.NEXT." + stream + "." + name,
		"$JS." + subject.DomainHub + ".API.CONSUMER.INFO." + stream + "." + name,
		"certctl.agent.evt." + name + ".>",
		"certctl.agent.rpc." + name + ".>",
	}
}

func ackForms(stream string) []string {
	return []string{
		"$JS.ACK." + stream + "." + name + ".>",
		"$JS.ACK.*.*." + stream + "." + name + ".>",
	}
}
