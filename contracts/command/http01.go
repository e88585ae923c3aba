package command

import "time"

// VerbHTTP01 asks an agent to answer HTTP-01 (RFC 8555 section 8.3) on its host, or to do so no more.
const VerbHTTP01 = "http01"

// HTTP01Answer is what a host answers to a CA that wants to see that a name leads there. It is no secret: anybody may ask
// the host for it.
type HTTP01Answer struct {
	Token string `json:"token"`
	// KeyAuthorization is the token, a dot, and the thumbprint of the key of the account at the CA.
	KeyAuthorization string `json:"key_authorization"`
}

// HTTP01 is the body of [VerbHTTP01].
type HTTP01 struct {
	Answers []HTTP01Answer `json:"answers"`
	// Withdraw takes the answers back.
	Withdraw bool `json:"withdraw,omitempty"`
	// Until is when the agent takes them back by itself.
	Until time.Time `json:"until"`
}

// AnswerHTTP01 asks the deployment service to have an agent show answers, and is answered when they can be seen; or to
// have it take them back, and is answered at once.
type AnswerHTTP01 struct {
	// ID is the asker's own for these answers: "job-h-" and what makes it unique. They are taken back by it.
	ID      string `json:"id"`
	AgentID string `json:"agent_id"`
	HTTP01
}

// AnsweredHTTP01 is the answer to [AnswerHTTP01].
type AnsweredHTTP01 struct{}
