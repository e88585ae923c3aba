// Package rollout holds the rules by which a version of a certificate comes to a
// target: the states of a job, the orders that agents are given for it, what their
// reports change, and when to try again.
//
// Everything here is a function of values, the time among them: nothing is stored or
// sent. A job that has ended never changes again, whatever is reported later.
//
// The states of a job:
//
//	Pending           an attempt is due, or its order is with an agent that has not begun
//	AwaitingApproval  somebody has to agree first
//	Running           the agent has begun
//	Completed         the target serves the version
//	Failed            given up, with the reason
//	Cancelled         called off by a person, or by a newer version
//
// AwaitingCSR belongs to the issuer's jobs; a deployment is never in it. A validation goes
// the same ways, in one attempt: Completed is that the target serves the version, Failed
// that it does not.
package rollout

import (
	"slices"
	"time"

	"github.com/certctl/certctl/contracts/event"
)

// Status is the state of a job.
type Status string

// The states of a job.
const (
	Pending          Status = "Pending"
	AwaitingCSR      Status = "AwaitingCSR"
	AwaitingApproval Status = "AwaitingApproval"
	Running          Status = "Running"
	Completed        Status = "Completed"
	Failed           Status = "Failed"
	Cancelled        Status = "Cancelled"
)

// following lists where a job may go from each state. Pending and Running lead to
// Pending again when an attempt failed and another is due.
var following = map[Status][]Status{
	Pending:          {Pending, Running, Completed, Failed, Cancelled},
	AwaitingApproval: {Pending, Failed, Cancelled},
	Running:          {Pending, Completed, Failed, Cancelled},
}

// May reports whether a job may go from s to another state.
func (s Status) May(to Status) bool { return slices.Contains(following[s], to) }

// Open reports whether the job has not ended.
func (s Status) Open() bool { return len(following[s]) > 0 }

// The kinds of jobs: to install a version, or to look whether it is served.
const (
	TypeDeployment = "Deployment"
	TypeValidation = "Validation"
)

// Job is one version on its way to one target, or the question whether the target serves
// it.
type Job struct {
	ID            string
	Type          string
	CertificateID string
	VersionID     string
	TargetID      string
	// AgentID is whom the latest attempt was given to.
	AgentID string
	// Fingerprint is that of the version's leaf.
	Fingerprint string

	Status      Status
	Attempts    int
	MaxAttempts int
	LastError   string
	// NextActionAt is when the next attempt is due; zero while an agent has the order.
	NextActionAt time.Time
	StartedAt    time.Time
	CompletedAt  time.Time
	// Revision counts the changes; events carry it.
	Revision int64

	// Correlation and TraceParent lead back to what the job follows from.
	Correlation, TraceParent string
}

// Attempt begins the next attempt, by an agent.
func (j *Job) Attempt(agentID string) {
	j.AgentID = agentID
	j.Attempts++
	j.NextActionAt = time.Time{}
	j.Revision++
}

// Start notes that the agent has begun, and reports whether that is news.
func (j *Job) Start(now time.Time) bool {
	if j.Status == Running || !j.Status.May(Running) {
		return false
	}
	j.Status = Running
	if j.StartedAt.IsZero() {
		j.StartedAt = now
	}
	j.Revision++
	return true
}

// Complete ends the job well, and reports whether it was open.
func (j *Job) Complete(now time.Time) bool {
	if !j.end(Completed, now) {
		return false
	}
	if j.StartedAt.IsZero() {
		j.StartedAt = now
	}
	j.LastError = ""
	return true
}

// Cancel ends the job for a reason that is nobody's failure, and reports whether it
// was open.
func (j *Job) Cancel(reason string, now time.Time) bool {
	if !j.end(Cancelled, now) {
		return false
	}
	j.LastError = reason
	return true
}

// Fail ends the job, and reports whether it was open.
func (j *Job) Fail(reason string, now time.Time) bool {
	if !j.end(Failed, now) {
		return false
	}
	j.LastError = reason
	return true
}

// Retry makes another attempt due, or ends the job if none is left. It reports whether
// the job ended by it.
func (j *Job) Retry(reason string, now time.Time, wait time.Duration) (ended bool) {
	if !j.Status.May(Pending) || j.Attempts >= j.MaxAttempts {
		return j.Fail(reason, now)
	}
	j.LastError = reason
	j.Status = Pending
	j.NextActionAt = now.Add(wait)
	j.Revision++
	return false
}

func (j *Job) end(how Status, now time.Time) bool {
	if !j.Status.May(how) {
		return false
	}
	j.Status = how
	j.CompletedAt = now
	j.NextActionAt = time.Time{}
	j.Revision++
	return true
}

// deployment is what every event about the job tells.
func (j *Job) deployment() event.Deployment {
	return event.Deployment{
		JobID: j.ID, CertificateID: j.CertificateID, VersionID: j.VersionID, TargetID: j.TargetID,
		AgentID: j.AgentID, Attempt: j.Attempts, FingerprintSHA256: j.Fingerprint,
	}
}

// Failure is the event that tells of a failed job.
func (j *Job) Failure() event.Event {
	if j.Type == TypeValidation {
		return event.DeploymentDiverged{Deployment: j.deployment(), Reason: j.LastError}
	}
	return event.DeploymentFailed{Deployment: j.deployment(), Reason: j.LastError}
}
