package platform

import (
	"github.com/certctl/certctl/contracts/access"
	"github.com/certctl/certctl/libs/natsauth"
)

// roles are what agents, leaves and hosts that enrol may do in account EDGE. The
// templates are part of the account's JWT, so whoever holds a signing key can make more
// users of a role, and none with wider rights.
func roles() natsauth.Roles {
	return natsauth.Roles{
		Agent: natsauth.Permissions(access.Agent()),
		Enrol: natsauth.Permissions(access.Enrol()),
		Leaf:  natsauth.Permissions(access.Leaf()),
		Relay: natsauth.Permissions(access.Relay()),
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
