package event

import "time"

// CertificateRequested tells that a certificate is now managed and wanted.
type CertificateRequested struct {
	CertificateID string   `json:"certificate_id"`
	JobID         string   `json:"job_id"`
	CommonName    string   `json:"common_name"`
	SANs          []string `json:"sans"`
	IssuerID      string   `json:"issuer_id"`
	OwnerID       string   `json:"owner_id"`
	TeamID        string   `json:"team_id"`
	Environment   string   `json:"environment"`
	TargetIDs     []string `json:"target_ids"`
	// Renewal tells that the certificate exists and a new version of it is wanted.
	Renewal bool `json:"renewal"`
	// Automatic tells that nobody asked for it: the renewal fell due by its policy. Reason
	// says why then.
	Automatic bool   `json:"automatic,omitempty"`
	Reason    string `json:"reason,omitempty"`
	// KeyRequest asks for the key along with it, where the agent is known that makes it. What is asked for later, and
	// again, is asked for by [CertificateKeyRequested].
	KeyRequest KeyRequest `json:"key_request,omitzero"`
}

// KeyRequested returns the request for a key that e carries, false if it carries none.
func (e CertificateRequested) KeyRequested() (CertificateKeyRequested, bool) {
	return CertificateKeyRequested{
		CertificateID: e.CertificateID, JobID: e.JobID, CommonName: e.CommonName, SANs: e.SANs, KeyRequest: e.KeyRequest,
	}, e.KeyRequest.AgentID != ""
}

// CertificateKeyRequested asks the agent of the certificate's target to make a key, or to
// take the one that it has, and a certificate signing request. The key never leaves the agent's host.
type CertificateKeyRequested struct {
	CertificateID string   `json:"certificate_id"`
	JobID         string   `json:"job_id"`
	CommonName    string   `json:"common_name"`
	SANs          []string `json:"sans"`
	KeyRequest
}

// KeyRequest is whom a key is asked of, and which.
type KeyRequest struct {
	// Attempt counts from 1. A later attempt replaces the key of an earlier one.
	Attempt int    `json:"attempt"`
	AgentID string `json:"agent_id"`
	// KeyAlgorithm is ECDSA, RSA or Ed25519; KeySize is in bits.
	KeyAlgorithm string `json:"key_algorithm"`
	KeySize      int    `json:"key_size"`
	// ReuseSPKISHA256 asks to make no new key but use the one that it identifies, as SPKISHA256 of a version does; an agent
	// that does not have it makes a new one. Empty asks for a new key.
	ReuseSPKISHA256 string `json:"reuse_spki_sha256,omitempty"`
	// ExpiresAt is when the agent should refuse to start on it.
	ExpiresAt time.Time `json:"expires_at"`
}

// Version is one issued certificate, without anything secret.
type Version struct {
	VersionID string `json:"version_id"`
	// SerialNumber is canonical lower-case hex without leading zeros.
	SerialNumber string `json:"serial_number"`
	// FingerprintSHA256 is lower-case hex of the leaf's DER.
	FingerprintSHA256 string    `json:"fingerprint_sha256"`
	NotBefore         time.Time `json:"not_before"`
	NotAfter          time.Time `json:"not_after"`
	// PEMChain holds the leaf, then its issuers, without the root.
	PEMChain string `json:"pem_chain"`
	// SPKISHA256 identifies the key: lower-case hex over the SubjectPublicKeyInfo.
	SPKISHA256 string `json:"spki_sha256"`
	// AuthorityKeyID is the CA's key as the leaf names it (RFC 5280 section 4.2.1.1), in lower-case hex. It is empty if the
	// leaf names none, and may be for one that was not just issued: then PEMChain tells.
	AuthorityKeyID string `json:"authority_key_id,omitempty"`
	// ShortLived tells that it ends before anybody would have heard of a revocation: it
	// points to no CRL and no OCSP, and need not stand in them.
	ShortLived bool `json:"short_lived,omitempty"`
	// EndsWithCA tells that it ends earlier than it would by the rules, together with its
	// CA's certificate: a renewal cannot be longer before the CA has a new one.
	EndsWithCA bool `json:"ends_with_ca,omitempty"`
	// LintFindings are what linters had to say against it when it was issued.
	LintFindings []LintFinding `json:"lint_findings,omitempty"`
}

// LintFinding is a rule that a certificate breaks, or comes near to breaking.
type LintFinding struct {
	// Lint is the rule's name, such as e_underscore_not_permissible_in_dnsname.
	Lint string `json:"lint"`
	// Level is notice, warn, error or fatal.
	Level string `json:"level"`
	// Detail is what was found, if there is more to say than the name does.
	Detail string `json:"detail,omitempty"`
}

// CertificateIssued tells of the first version of a certificate.
type CertificateIssued struct {
	CertificateID string   `json:"certificate_id"`
	JobID         string   `json:"job_id"`
	IssuerID      string   `json:"issuer_id"`
	CommonName    string   `json:"common_name"`
	SANs          []string `json:"sans"`
	TargetIDs     []string `json:"target_ids"`
	// KeyAgentID is the agent that holds the key, empty if the CSR came from outside.
	KeyAgentID string `json:"key_agent_id,omitempty"`
	// FallbackFor is the certificate's own issuer, if IssuerID issued in its place for FallbackReason.
	FallbackFor    string `json:"fallback_for,omitempty"`
	FallbackReason string `json:"fallback_reason,omitempty"`
	Version
}

// CertificateRenewed tells of a further version of a certificate.
type CertificateRenewed struct {
	CertificateIssued
	// PreviousVersionID is the version that this one follows.
	PreviousVersionID string `json:"previous_version_id,omitempty"`
}

// CertificateActivated tells that the newest version, or an older one that somebody put in
// its place, is served by all of the certificate's targets. One without targets is active when it is issued or renewed, and
// this event is not sent.
type CertificateActivated struct {
	CertificateID string `json:"certificate_id"`
	VersionID     string `json:"version_id"`
}

// CertificateFailed tells that an issuance, a renewal or its deployment was given
// up. What was served before is still served.
type CertificateFailed struct {
	CertificateID string `json:"certificate_id"`
	JobID         string `json:"job_id"`
	// Stage is "issuance", "renewal" or "deployment".
	Stage  string `json:"stage"`
	Reason string `json:"reason"`
}

// CertificateArchived tells that a certificate is no longer managed.
type CertificateArchived struct {
	CertificateID string `json:"certificate_id"`
}

// About implements [Event].
func (e CertificateRequested) About() (string, string, string) {
	return "certificate", e.CertificateID, "requested"
}

// About implements [Event].
func (e CertificateKeyRequested) About() (string, string, string) {
	return "certificate", e.CertificateID, "keyrequested"
}

// About implements [Event].
func (e CertificateIssued) About() (string, string, string) {
	return "certificate", e.CertificateID, "issued"
}

// About implements [Event].
func (e CertificateRenewed) About() (string, string, string) {
	return "certificate", e.CertificateID, "renewed"
}

// About implements [Event].
func (e CertificateActivated) About() (string, string, string) {
	return "certificate", e.CertificateID, "activated"
}

// About implements [Event].
func (e CertificateFailed) About() (string, string, string) {
	return "certificate", e.CertificateID, "failed"
}

// About implements [Event].
func (e CertificateArchived) About() (string, string, string) {
	return "certificate", e.CertificateID, "archived"
}

// CertificateUpdated tells that the record of a certificate was changed by someone, as
// opposed to what its life does to it.
type CertificateUpdated struct {
	CertificateID string `json:"certificate_id"`
	// As they are after the change.
	CommonName  string   `json:"common_name"`
	IssuerID    string   `json:"issuer_id"`
	OwnerID     string   `json:"owner_id"`
	TeamID      string   `json:"team_id"`
	Environment string   `json:"environment"`
	TargetIDs   []string `json:"target_ids"`
	Changes     Changes  `json:"changes"`
	// Newest is the newest version, if there is one and the targets were changed: it may have to be installed by one who
	// has not kept it. KeyAgentID is the agent that holds its key, empty if the CSR came from outside.
	Newest     Version `json:"newest,omitzero"`
	KeyAgentID string  `json:"key_agent_id,omitempty"`
}

// About implements [Event].
func (e CertificateUpdated) About() (string, string, string) {
	return "certificate", e.CertificateID, "updated"
}

// CertificateDeploymentRequested tells that somebody wants a version of a certificate on
// targets now, whatever they serve: the newest, or an older one in its place.
type CertificateDeploymentRequested struct {
	CertificateID string `json:"certificate_id"`
	IssuerID      string `json:"issuer_id"`
	CommonName    string `json:"common_name"`
	// TargetIDs are all or some of the certificate's.
	TargetIDs []string `json:"target_ids"`
	// KeyAgentID is the agent that holds the key, empty if the CSR came from outside.
	KeyAgentID string `json:"key_agent_id,omitempty"`
	// Rollback tells that there is a newer version.
	Rollback    bool   `json:"rollback"`
	RequestedBy string `json:"requested_by"`
	// The version is here in full: whoever installs it may never have heard of it.
	Version
}

// About implements [Event].
func (e CertificateDeploymentRequested) About() (string, string, string) {
	return "certificate", e.CertificateID, "deploymentrequested"
}

// CertificateExpiring tells that the newest version has come within a threshold of its
// end. Each threshold is told once a version, and of several that had passed unseen only
// the nearest to the end.
type CertificateExpiring struct {
	CertificateID string    `json:"certificate_id"`
	VersionID     string    `json:"version_id"`
	NotAfter      time.Time `json:"not_after"`
	// DaysLeft are whole days, Threshold the one that was reached.
	DaysLeft  int `json:"days_left"`
	Threshold int `json:"threshold"`
}

// CertificateExpired tells that the newest version has ended: the threshold of no days,
// told whether or not the policy lists it.
type CertificateExpired struct {
	CertificateID string    `json:"certificate_id"`
	VersionID     string    `json:"version_id"`
	NotAfter      time.Time `json:"not_after"`
}

// About implements [Event].
func (e CertificateExpiring) About() (string, string, string) {
	return "certificate", e.CertificateID, "expiring"
}

// About implements [Event].
func (e CertificateExpired) About() (string, string, string) {
	return "certificate", e.CertificateID, "expired"
}

// CertificateImported tells that a certificate which exists already is managed from now on. It
// was not issued here: no issuer of this installation answers for its serial number.
type CertificateImported struct {
	CertificateID string   `json:"certificate_id"`
	CommonName    string   `json:"common_name"`
	SANs          []string `json:"sans"`
	// IssuerID is the issuer that will renew it; IssuerName is whom it names as its own.
	IssuerID    string `json:"issuer_id"`
	IssuerName  string `json:"issuer_name"`
	OwnerID     string `json:"owner_id"`
	TeamID      string `json:"team_id"`
	Environment string `json:"environment"`
	// KeyKept tells that its private key lies here, sealed; Exportable that it may leave again.
	KeyKept    bool `json:"key_kept"`
	Exportable bool `json:"exportable"`
	Version
}

// CertificateKeyReleased tells that a private key which lay here was handed out.
type CertificateKeyReleased struct {
	CertificateID string `json:"certificate_id"`
	VersionID     string `json:"version_id"`
	// SPKISHA256 identifies the key: lower-case hex over the SubjectPublicKeyInfo.
	SPKISHA256 string `json:"spki_sha256"`
	// Way is "export" for a copy under a password, in the Format, or "delivery" for a key that was made
	// here and is here no more.
	Way    string `json:"way"`
	Format string `json:"format,omitempty"`
}

// About implements [Event].
func (e CertificateImported) About() (string, string, string) {
	return "certificate", e.CertificateID, "imported"
}

// About implements [Event].
func (e CertificateKeyReleased) About() (string, string, string) {
	return "certificate", e.CertificateID, "keyreleased"
}
