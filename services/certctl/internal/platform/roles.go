package platform

import (
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
)

// self stands for the user's own name in the templates of scoped signing keys: the
// agent's, the site's or the token's id.
const self = "{{name()}}"

// roles are what agents, leaves and hosts that enrol may do in account EDGE. The
// templates are part of the account's JWT, so whoever holds a signing key can make more
// users of a role, and none with wider rights.
func roles() natsauth.Roles {
	return natsauth.Roles{
		// An agent draws its own orders from its leaf, reports, and asks.
		Agent: natsauth.Permissions{
			Publish: concat(
				read("$JS.API", subject.StreamSiteCommands),
				[]string{"site.evt." + self + ".>", "site.rpc." + self + ".>"},
			),
			Subscribe: []string{"_INBOX_" + self + ".>"},
		},
		// A host with a one-time token asks once, with that token.
		Enrol: natsauth.Permissions{
			Publish:   []string{"site.rpc.enrol." + self},
			Subscribe: []string{"_INBOX_enrol-" + self + ".>"},
		},
		// A leaf's link draws its site's orders from the hub, and brings reports and
		// questions of its site.
		Leaf: natsauth.Permissions{
			Publish: concat(
				read("$JS."+subject.DomainHub+".API", subject.StreamAgentCommands),
				[]string{"certctl.agent.evt." + self + ".>", "certctl.agent.rpc." + self + ".>"},
			),
			Subscribe: []string{"_INBOX_" + self + ".>"},
		},
		// A leaf's own process shapes the site's streams and carries messages between
		// the site and the link, whose rights then bound what reaches the hub.
		Relay: natsauth.Permissions{
			Publish: concat(
				read("$JS."+subject.DomainHub+".API", subject.StreamAgentCommands),
				[]string{
					"$JS.API.>", "$JS.ACK.>", "site.>",
					"certctl.agent.evt." + self + ".>", "certctl.agent.rpc." + self + ".>",
				},
			),
			Subscribe: []string{"_INBOX_" + self + ".>", subject.AllSiteRequests},
			Responses: unlimited,
		},
	}
}

// read lets a user read the durable of its own name.
func read(api, stream string) []string {
	return []string{
		api + ".CONSUMER.INFO." + stream + "." + self,
		api + ".CONSUMER.MSG.NEXT." + stream + "." + self,
		"$JS.ACK." + stream + "." + self + ".>",
		"$JS.ACK.*.*." + stream + "." + self + ".>",
	}
}

// limits bound each account. Disk is bounded by the streams' own sizes.
func limits() map[natsauth.Account]natsauth.Limits {
	const anySize = -1
	return map[natsauth.Account]natsauth.Limits{
		natsauth.CORE: {DiskBytes: anySize},
		natsauth.EDGE: {
			DiskBytes: anySize, Streams: 8, Consumers: 5000, Connections: 2000, LeafConnections: 1000,
			Subscriptions: 5000, Payload: 1 << 20,
		},
		natsauth.EXT: {DiskBytes: anySize, Streams: 4, Consumers: 500, Connections: 500, Subscriptions: 1000, Payload: 1 << 20},
	}
}
