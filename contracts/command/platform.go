package command

// RevokeUsers asks the authority to revoke users of an account at once.
type RevokeUsers struct {
	// Account is EDGE or EXT.
	Account    string   `json:"account"`
	PublicKeys []string `json:"public_keys"`
}

// RevokedUsers is the answer: the account's new JWT, for leaves to apply.
type RevokedUsers struct {
	AccountJWT string `json:"account_jwt"`
}

// SignCRL asks an issuer to sign a revocation list. Entries must be the whole list.
type SignCRL struct {
	IssuerID string `json:"issuer_id"`
	// KeyID is which of the issuer's keys is to sign; empty is the one that signs what is
	// issued now.
	KeyID   string     `json:"key_id,omitempty"`
	Number  int64      `json:"number"`
	Entries []CRLEntry `json:"entries"`
	// ThisUpdate and NextUpdate are RFC 3339.
	ThisUpdate string `json:"this_update"`
	NextUpdate string `json:"next_update"`
}

// CRLEntry is one revoked certificate.
type CRLEntry struct {
	SerialNumber string `json:"serial_number"`
	RevokedAt    string `json:"revoked_at"`
	ReasonCode   int    `json:"reason_code"`
}

// SignedCRL is the DER of the list.
type SignedCRL struct {
	DER []byte `json:"der"`
}

// IssueOCSPResponder asks an issuer for a short-lived certificate of a delegated
// OCSP responder (RFC 6960 section 4.2.2.2) for the key in the request.
type IssueOCSPResponder struct {
	IssuerID string `json:"issuer_id"`
	// KeyID is which of the issuer's keys is to sign; empty is the one that signs what is
	// issued now.
	KeyID  string `json:"key_id,omitempty"`
	CSRPEM string `json:"csr_pem"`
}

// OCSPResponder is that certificate, with the issuing CA's after it.
type OCSPResponder struct {
	PEMChain string `json:"pem_chain"`
}
