package event

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
