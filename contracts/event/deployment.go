package event

// Deployment is what every event of a deployment job tells.
type Deployment struct {
	JobID         string `json:"job_id"`
	CertificateID string `json:"certificate_id"`
	VersionID     string `json:"version_id"`
	TargetID      string `json:"target_id"`
	AgentID       string `json:"agent_id"`
	Attempt       int    `json:"attempt"`
	// FingerprintSHA256 is the leaf that was to be installed.
	FingerprintSHA256 string `json:"fingerprint_sha256"`
}

// DeploymentStarted tells that the agent took the job.
type DeploymentStarted struct {
	Deployment
}

// DeploymentCompleted tells that the version is installed, and that a connection to
// the target was answered with it.
type DeploymentCompleted struct {
	Deployment
	// ServedFingerprintSHA256 is the leaf that the target served when asked.
	ServedFingerprintSHA256 string `json:"served_fingerprint_sha256,omitempty"`
	DurationMillis          int64  `json:"duration_ms"`
}

// DeploymentFailed tells that a job was given up.
type DeploymentFailed struct {
	Deployment
	Reason string `json:"reason"`
}

// DeploymentRolledBack tells that an attempt failed and that what was there before
// was put back. The job goes on if attempts are left.
type DeploymentRolledBack struct {
	Deployment
	Reason string `json:"reason"`
}

// DeploymentVerified tells that a connection to the target was answered with the version
// that it is to serve. Nothing was changed.
type DeploymentVerified struct {
	Deployment
	ServedFingerprintSHA256 string `json:"served_fingerprint_sha256"`
	DurationMillis          int64  `json:"duration_ms"`
}

// DeploymentDiverged tells that somebody looked whether the target serves the version that
// it is to serve, and that it serves another one, or could not be seen. Nothing was changed.
type DeploymentDiverged struct {
	Deployment
	// ServedFingerprintSHA256 is what it served, empty if it could not be seen.
	ServedFingerprintSHA256 string `json:"served_fingerprint_sha256,omitempty"`
	Reason                  string `json:"reason"`
}

// About implements [Event].
func (e DeploymentVerified) About() (string, string, string) {
	return "deployment", e.JobID, "verified"
}

// About implements [Event].
func (e DeploymentDiverged) About() (string, string, string) {
	return "deployment", e.JobID, "diverged"
}

// About implements [Event].
func (e DeploymentStarted) About() (string, string, string) { return "deployment", e.JobID, "started" }

// About implements [Event].
func (e DeploymentCompleted) About() (string, string, string) {
	return "deployment", e.JobID, "completed"
}

// About implements [Event].
func (e DeploymentFailed) About() (string, string, string) { return "deployment", e.JobID, "failed" }

// About implements [Event].
func (e DeploymentRolledBack) About() (string, string, string) {
	return "deployment", e.JobID, "rolledback"
}
