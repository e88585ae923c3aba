package event

// PolicyViolated tells that a certificate breaks a policy rule, or would have. It is told
// when that is first found, and of what goes on at most once a day.
type PolicyViolated struct {
	RuleID   string `json:"rule_id"`
	RuleName string `json:"rule_name"`
	// Severity is Warning, Error or Critical.
	Severity string `json:"severity"`
	// CertificateID is empty where the certificate was refused, and therefore never was.
	CertificateID string `json:"certificate_id"`
	CommonName    string `json:"common_name"`
	// Message names the rule and the value that it objects to.
	Message string `json:"message"`
	// Blocked tells that what was asked for was refused because of it.
	Blocked bool `json:"blocked"`
	// Stage is "issue", "renew" or "deploy".
	Stage string `json:"stage"`
}

// About implements [Event].
func (e PolicyViolated) About() (string, string, string) { return "policy", e.RuleID, "violated" }
