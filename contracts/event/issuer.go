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
	// Authorities are all CAs that the issuer issues or has issued by, if they are more than
	// one: its key has been changed. Relying parties ask about each under its own id.
	Authorities []Authority `json:"authorities,omitempty"`
}

// Authority is one key of an issuer, with its certificate.
type Authority struct {
	// ID stands for it where relying parties ask: the issuer's id for the first key, the
	// key's for any later one. So what old certificates point to stays as it is.
	ID    string `json:"id"`
	KeyID string `json:"key_id"`
	// CAChainPEM holds its certificate and those above it, root last.
	CAChainPEM string `json:"ca_chain_pem"`
	SignsCRL   bool   `json:"signs_crl"`
	// Active tells that it signs what is issued now.
	Active bool `json:"active,omitempty"`
}

// About implements [Event].
func (e IssuerConfigured) About() (string, string, string) {
	return "issuer", e.IssuerID, "configured"
}

// IssuerExpiring tells that an issuer's own certificate, or one above it, ends soon or has
// ended. It is told once for each threshold.
type IssuerExpiring struct {
	IssuerID string `json:"issuer_id"`
	Name     string `json:"name"`
	// Subject is that of the certificate that ends.
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	// DaysLeft are whole days; zero on the last one and once it has ended.
	DaysLeft int `json:"days_left"`
	// Threshold is that of the warning, in days before the end; zero is the end itself.
	Threshold int `json:"threshold"`
	// CutsShort tells that what is issued or renewed now ends with the CA, earlier than it
	// would by the issuer's settings.
	CutsShort bool `json:"cuts_short,omitempty"`
	// Advice says what is to be done, for people.
	Advice string `json:"advice"`
}

// About implements [Event].
func (e IssuerExpiring) About() (string, string, string) {
	return "issuer", e.IssuerID, "expiring"
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
