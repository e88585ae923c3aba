// Package command holds what is asked for on the bus: orders to agents and their
// reports, and the requests between services that are not HTTP operations.
//
// Orders and reports are signed over the exact bytes that were sent, so no
// canonical form is needed: what is verified is what is decoded. Orders bear the
// platform's signature, pinned by the agent when it enrolled; reports bear the
// signature of the agent's own key.
package command

import (
	"encoding/json"
	"time"
)

// Signed is a payload and an Ed25519 signature over its bytes.
type Signed struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
	// KeyID is the public key in nkey form, by which a receiver that knows several
	// chooses one. It proves nothing.
	KeyID string `json:"key_id"`
}

// Verbs of orders to agents.
const (
	// VerbKeyRequest asks for a key and a certificate signing request.
	VerbKeyRequest = "keyrequest"
	// VerbDeploy asks to install a certificate and to check that it is served.
	VerbDeploy = "deploy"
	// VerbVerify asks to look at what is served, and to change nothing.
	VerbVerify = "verify"
	// VerbAccount brings a leaf the newest account JWT; its agent token is "site".
	VerbAccount = "account"
)

// AgentCommand is an order to one agent: the payload of a [Signed].
type AgentCommand struct {
	// JobID and Attempt make an order unique: an agent that finished one answers a
	// repeat with the same report and does nothing.
	JobID   string `json:"job_id"`
	Attempt int    `json:"attempt"`
	SiteID  string `json:"site_id"`
	AgentID string `json:"agent_id"`
	Verb    string `json:"verb"`
	// IssuedAt and ExpiresAt bound when the agent may begin.
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
	// Body is a [KeyRequest], a [Deploy] or an [HTTP01], by the verb; that of [VerbVerify] is a Deploy too.
	Body json.RawMessage `json:"body"`
}

// KeyRequest is the body of [VerbKeyRequest].
type KeyRequest struct {
	CertificateID string   `json:"certificate_id"`
	CommonName    string   `json:"common_name"`
	SANs          []string `json:"sans"`
	// KeyAlgorithm is ECDSA, RSA or Ed25519; KeySize is in bits.
	KeyAlgorithm string `json:"key_algorithm"`
	KeySize      int    `json:"key_size"`
	// ReuseSPKISHA256 asks to make no new key but use the one whose SubjectPublicKeyInfo has this SHA-256, in lower-case
	// hex. One who does not have it makes a new one. Empty asks for a new key.
	ReuseSPKISHA256 string `json:"reuse_spki_sha256,omitempty"`
}

// Deploy is the body of [VerbDeploy] and [VerbVerify].
type Deploy struct {
	CertificateID string `json:"certificate_id"`
	VersionID     string `json:"version_id"`
	// PEMChain holds the leaf, then its issuers.
	PEMChain          string `json:"pem_chain"`
	FingerprintSHA256 string `json:"fingerprint_sha256"`
	TargetID          string `json:"target_id"`
	// TargetType is NGINX, Apache, HAProxy, F5 or IIS.
	TargetType string `json:"target_type"`
	// TargetConfig has the keys that the type defines, such as cert_path.
	TargetConfig json.RawMessage `json:"target_config"`
}

// Outcomes of an order.
const (
	OutcomeStarted    = "started"
	OutcomeCSR        = "csr"
	OutcomeCompleted  = "completed"
	OutcomeFailed     = "failed"
	OutcomeRolledBack = "rolledback"
)

// AgentReport is what an agent has to tell of an order: the payload of a [Signed].
type AgentReport struct {
	JobID   string    `json:"job_id"`
	Attempt int       `json:"attempt"`
	AgentID string    `json:"agent_id"`
	Verb    string    `json:"verb"`
	Outcome string    `json:"outcome"`
	At      time.Time `json:"at"`
	// CSRPEM accompanies the outcome "csr".
	CSRPEM string `json:"csr_pem,omitempty"`
	// Error says what went wrong, for a person to read.
	Error string `json:"error,omitempty"`
	// Permanent tells that trying again as is cannot help.
	Permanent bool `json:"permanent,omitempty"`
	// ServedFingerprintSHA256 is the leaf that the target answered with.
	ServedFingerprintSHA256 string `json:"served_fingerprint_sha256,omitempty"`
	DurationMillis          int64  `json:"duration_ms,omitempty"`
}
