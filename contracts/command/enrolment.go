package command

import "time"

// Verbs of the questions that agents and leaves ask.
const (
	// VerbHello asks the leaf to make sure that the agent's durable exists. The leaf
	// answers it without the hub.
	VerbHello = "hello"
	// VerbHeartbeat tells that the agent lives; it has no answer.
	VerbHeartbeat = "heartbeat"
	// VerbHeartbeats is a leaf's bundle of heartbeats.
	VerbHeartbeats = "heartbeats"
	// VerbRefresh asks for a fresh JWT for the same key.
	VerbRefresh = "refresh"
)

// EnrolmentToken is what an operator hands to a new host, base64url of this JSON
// after the prefix "cet_". It is good for one enrolment and for a limited time.
type EnrolmentToken struct {
	ID     string `json:"id"`
	SiteID string `json:"site_id"`
	Secret string `json:"secret"`
	// JWT is a bearer user of the leaf that may do nothing but ask to enrol with
	// this token; empty in the token of a site, which enrols over HTTP.
	JWT string `json:"jwt,omitempty"`
}

// EnrolRequest is what a host sends with its token.
type EnrolRequest struct {
	Secret string `json:"secret"`
	// PublicKey is the host's new nkey; its seed stays on the host.
	PublicKey string    `json:"public_key"`
	Heartbeat Heartbeat `json:"heartbeat"`
}

// EnrolReply is the identity of a new agent.
type EnrolReply struct {
	AgentID string `json:"agent_id"`
	SiteID  string `json:"site_id"`
	UserJWT string `json:"user_jwt"`
	// PlatformKey verifies the orders to this agent; the agent pins it.
	PlatformKey string `json:"platform_key"`
}

// RefreshReply carries a fresh JWT.
type RefreshReply struct {
	UserJWT string `json:"user_jwt"`
	// AccountJWT is the newest account JWT, in the reply to a leaf.
	AccountJWT string `json:"account_jwt,omitempty"`
}

// Heartbeat is what an agent tells of itself. Empty fields mean no change.
type Heartbeat struct {
	AgentID      string    `json:"agent_id,omitempty"`
	Name         string    `json:"name,omitempty"`
	Hostname     string    `json:"hostname,omitempty"`
	OS           string    `json:"os,omitempty"`
	Architecture string    `json:"architecture,omitempty"`
	IPAddress    string    `json:"ip_address,omitempty"`
	Version      string    `json:"version,omitempty"`
	At           time.Time `json:"at,omitzero"`
}

// Heartbeats is a leaf's bundle, at most one a agent.
type Heartbeats struct {
	Heartbeats []Heartbeat `json:"heartbeats"`
}

// Fault is how a request over the bus is refused: the code and message of a
// libs/fault error.
type Fault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Reply wraps every answer to a request over the bus that is not HTTP: either
// Fault is set or Body is.
type Reply[T any] struct {
	Fault *Fault `json:"fault,omitempty"`
	Body  *T     `json:"body,omitempty"`
}
