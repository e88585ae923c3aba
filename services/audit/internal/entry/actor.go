package entry

import (
	"strings"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/bus"
)

// Kinds of actors.
const (
	kindUser   = "User"
	kindSystem = "System"
	kindAgent  = "Agent"
)

// services act of their own accord under their own names. Keys of users bear the prefix
// key-, so none is taken for one of these.
var services = map[string]bool{
	"gateway": true, "issuer": true, "deployment": true, "discovery": true,
	"notification": true, "revocation": true, "audit": true, "certctl": true,
	// What falls due by a policy.
	"system": true,
}

// reported are events that tell what an agent did. The service that publishes them only
// passes them on.
var reported = map[string]bool{
	event.Type(event.CSRSubmitted{}):         true,
	event.Type(event.DeploymentStarted{}):    true,
	event.Type(event.DeploymentCompleted{}):  true,
	event.Type(event.DeploymentRolledBack{}): true,
	event.Type(event.AgentRegistered{}):      true,
}

// actor is who caused the event: the principal if one is known, else the agent that
// reports it, else the service that acted of its own accord.
func actor(m bus.Message, told body) (name, kind string) {
	switch {
	case services[m.Actor]:
		return m.Actor, kindSystem
	case strings.HasPrefix(m.Actor, "agent-"):
		return storable(m.Actor), kindAgent
	case m.Actor != "":
		return storable(m.Actor), kindUser
	}
	if reported[m.Type] {
		if agent := told.text("agent_id"); agent != "" {
			return storable(agent), kindAgent
		}
	}
	return storable(strings.TrimPrefix(m.Source, "/certctl/")), kindSystem
}
