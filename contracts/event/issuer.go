package event

import "time"

// IssuerConfigured tells that an issuer can be used, and by which certificates its
// issue can be recognised.
type IssuerConfigured struct {
	IssuerID string `json:"issuer_id"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	// CAChainPEM holds the issuing CA's certificate and those above it, root last.
	CAChainPEM string `json:"ca_chain_pem"`
	// SignsCRL tells that the issuer signs revocation lists when asked.
	SignsCRL bool `json:"signs_crl"`
}

// About implements [Event].
func (e IssuerConfigured) About() (string, string, string) {
	return "issuer", e.IssuerID, "configured"
}

// IssuerCircuitChanged tells that an issuer's CA is left alone because it fails again and
// again, or that it answers again.
type IssuerCircuitChanged struct {
	IssuerID string `json:"issuer_id"`
	// State is "open" or "closed".
	State string `json:"state"`
	// Failures are how many requests in a row it has not answered well, LastError what came of the last.
	Failures  int    `json:"failures"`
	LastError string `json:"last_error,omitempty"`
	// RetryAt is when it is tried again; zero if it is closed.
	RetryAt time.Time `json:"retry_at,omitzero"`
}

// About implements [Event].
func (e IssuerCircuitChanged) About() (string, string, string) {
	return "issuer", e.IssuerID, "circuitchanged"
}
