package event

// CSRSubmitted tells that an agent made a key and hands in the request for it.
type CSRSubmitted struct {
	CertificateID string `json:"certificate_id"`
	JobID         string `json:"job_id"`
	Attempt       int    `json:"attempt"`
	AgentID       string `json:"agent_id"`
	CSRPEM        string `json:"csr_pem"`
}

// CSRFailed tells that an agent could not make a key or a request.
type CSRFailed struct {
	CertificateID string `json:"certificate_id"`
	JobID         string `json:"job_id"`
	Attempt       int    `json:"attempt"`
	AgentID       string `json:"agent_id"`
	Reason        string `json:"reason"`
}

// About implements [Event].
func (e CSRSubmitted) About() (string, string, string) { return "csr", e.JobID, "submitted" }

// About implements [Event].
func (e CSRFailed) About() (string, string, string) { return "csr", e.JobID, "failed" }
