package event

// JobDecision is what a person decided about a job that waited for approval. Who decided
// is the event's actor, and never who asked for the job.
type JobDecision struct {
	JobID         string `json:"job_id"`
	CertificateID string `json:"certificate_id"`
	// Type is Issuance or Renewal.
	Type string `json:"type"`
	// RequestedBy is "system" where the job fell due by its policy.
	RequestedBy string `json:"requested_by"`
	Reason      string `json:"reason"`
}

type (
	// JobApproved tells that a job may go on.
	JobApproved struct{ JobDecision }
	// JobRejected tells that a job was stopped.
	JobRejected struct{ JobDecision }
)

// About implements [Event].
func (e JobApproved) About() (string, string, string) { return "job", e.JobID, "approved" }

// About implements [Event].
func (e JobRejected) About() (string, string, string) { return "job", e.JobID, "rejected" }
