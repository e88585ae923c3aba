package event

// Change is a field's value before and after, as JSON. Nil stands for a field that was
// not there before, or is not there any more.
type Change struct {
	Before any `json:"before"`
	After  any `json:"after"`
}

// Changes are the fields that differ, by their names in the API. A secret never stands in
// them: that one was changed is told by "(secret)" on both sides.
type Changes map[string]Change

// What happened to a record.
const (
	Created = "created"
	Updated = "updated"
	Deleted = "deleted"
)

// Record tells what was done to a record of the configuration: what people set up, as
// opposed to what certctl does of its own accord.
type Record struct {
	ID string `json:"id"`
	// Name is what people call it, after the change.
	Name string `json:"name"`
	// Verb is Created, Updated or Deleted.
	Verb    string  `json:"verb"`
	Changes Changes `json:"changes"`
}

// The kinds of records. Each tells of itself on subjects of its own, so that a service's
// right to publish ends at the records that it owns.
type (
	// TeamChanged tells of a team.
	TeamChanged struct{ Record }
	// OwnerChanged tells of an owner of certificates.
	OwnerChanged struct{ Record }
	// IssuerChanged tells of an issuer's settings. That it can be used is told by IssuerConfigured.
	IssuerChanged struct{ Record }
	// ProfileChanged tells of a certificate profile.
	ProfileChanged struct{ Record }
	// PolicyChanged tells of a policy rule.
	PolicyChanged struct{ Record }
	// RenewalPolicyChanged tells of a renewal policy.
	RenewalPolicyChanged struct{ Record }
	// BlockedKeyChanged tells of a key that is not to be certified; its id is the SHA-256 of its SubjectPublicKeyInfo.
	BlockedKeyChanged struct{ Record }
	// AgentGroupChanged tells of an agent group, its criteria or its members.
	AgentGroupChanged struct{ Record }
	// APIKeyChanged tells of an API key; never of the key itself.
	APIKeyChanged struct{ Record }
)

// About implements [Event].
func (e TeamChanged) About() (string, string, string) { return "team", e.ID, "changed" }

// About implements [Event].
func (e OwnerChanged) About() (string, string, string) { return "owner", e.ID, "changed" }

// About implements [Event]. Its subject is not the one of IssuerConfigured, whose order
// among its own kind the revocation service relies on.
func (e IssuerChanged) About() (string, string, string) { return "issuersettings", e.ID, "changed" }

// About implements [Event].
func (e ProfileChanged) About() (string, string, string) { return "profile", e.ID, "changed" }

// About implements [Event].
func (e PolicyChanged) About() (string, string, string) { return "policy", e.ID, "changed" }

// About implements [Event].
func (e RenewalPolicyChanged) About() (string, string, string) {
	return "renewalpolicy", e.ID, "changed"
}

// About implements [Event].
func (e BlockedKeyChanged) About() (string, string, string) { return "blockedkey", e.ID, "changed" }

// About implements [Event].
func (e AgentGroupChanged) About() (string, string, string) { return "agentgroup", e.ID, "changed" }

// About implements [Event].
func (e APIKeyChanged) About() (string, string, string) { return "apikey", e.ID, "changed" }
