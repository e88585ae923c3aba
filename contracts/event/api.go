package event

// APICalled tells of calls to the HTTP API, also of refused ones. Unlike the others it
// is a record, not a change of something owned: it travels on the audit stream, and
// nobody but the audit service reads it. Calls that end at about the same time travel
// together.
type APICalled struct {
	// ID is of this message, not of a call.
	ID    string    `json:"id"`
	Calls []APICall `json:"calls"`
}

// APICall is one call.
type APICall struct {
	RequestID string `json:"request_id"`
	// At is when the call was answered, RFC 3339 in UTC.
	At string `json:"at"`
	// Actor is the key or person who called, "anonymous" if nobody was recognised.
	Actor     string `json:"actor"`
	ActorType string `json:"actor_type"`
	Operation string `json:"operation,omitempty"`
	Method    string `json:"method"`
	// Path is cut at 1 KiB.
	Path string `json:"path"`
	// BodyHash is the start of the body's SHA-256: 16 hex digits, empty without one.
	BodyHash      string `json:"body_hash,omitempty"`
	Status        int    `json:"status"`
	LatencyMillis int64  `json:"latency_ms"`
	RemoteAddress string `json:"remote_address,omitempty"`
}

// About implements [Event].
func (e APICalled) About() (string, string, string) { return "api", e.ID, "called" }
