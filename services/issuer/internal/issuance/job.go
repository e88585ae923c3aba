package issuance

import (
	"slices"
	"time"

	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// JobStatus is the state of a job.
type JobStatus string

// The states of a job. The last three are final; a certificate has at most one job in any of the others.
const (
	// JobPending waits for a worker.
	JobPending JobStatus = "Pending"
	// JobAwaitingCSR waits for a signing request, of an agent or of whoever asked for the certificate.
	JobAwaitingCSR JobStatus = "AwaitingCSR"
	// JobAwaitingApproval waits for a person.
	JobAwaitingApproval JobStatus = "AwaitingApproval"
	// JobRunning is held by a worker.
	JobRunning JobStatus = "Running"
	// JobCompleted has made its version.
	JobCompleted JobStatus = "Completed"
	// JobFailed was given up.
	JobFailed JobStatus = "Failed"
	// JobCancelled was stopped by a person, or because none approved it in time.
	JobCancelled JobStatus = "Cancelled"
)

// JobStatuses lists every state.
var JobStatuses = []JobStatus{
	JobPending, JobAwaitingCSR, JobAwaitingApproval, JobRunning, JobCompleted, JobFailed, JobCancelled,
}

// jobMoves lists where a job may go from each state; docs/lifecycle.md shows it as a table.
var jobMoves = map[JobStatus][]JobStatus{
	JobPending:          {JobRunning, JobAwaitingApproval, JobCancelled},
	JobAwaitingCSR:      {JobRunning, JobPending, JobCompleted, JobFailed, JobCancelled},
	JobAwaitingApproval: {JobPending, JobCancelled},
	JobRunning:          {JobPending, JobAwaitingCSR, JobCompleted, JobFailed, JobCancelled},
	JobCompleted:        {},
	JobFailed:           {},
	JobCancelled:        {},
}

// CanBecome reports whether a job may go from s to next.
func (s JobStatus) CanBecome(next JobStatus) bool { return slices.Contains(jobMoves[s], next) }

// Final reports whether a job in this state is over.
func (s JobStatus) Final() bool { return len(jobMoves[s]) == 0 }

// JobType says what a job makes.
type JobType string

// The types of jobs that are the issuer's.
const (
	// Issuance makes the first version of a certificate.
	Issuance JobType = "Issuance"
	// Renewal makes a further one.
	Renewal JobType = "Renewal"
)

// stage is the type as events spell it.
func (t JobType) stage() string {
	if t == Renewal {
		return "renewal"
	}
	return "issuance"
}

// System is who asks for what falls due by a policy.
const System = "system"

// Origin is who caused something and in which request. It is on every event that follows.
type Origin struct {
	Actor, CorrelationID, TraceParent string
}

// Job is the work of making one version.
type Job struct {
	ID                    string
	Type                  JobType
	CertificateID         string
	Status                JobStatus
	Attempts, MaxAttempts int
	// AgentID is who makes the key, once it has been asked.
	AgentID   string
	CSRPEM    string
	VersionID string
	LastError string
	// PolicyID is the renewal policy that was in force when it began.
	PolicyID string
	// ApprovedBy and RejectedBy are who decided about it, for the reason that was given.
	ApprovedBy, RejectedBy, ApprovalReason string
	ApprovedAt                             time.Time
	// NextActionAt is when a worker looks at it; zero if none does.
	NextActionAt time.Time
	// Token is the fence: a change of the job is refused unless it names the newest one.
	Token                             int64
	Origin                            Origin
	CreatedAt, StartedAt, CompletedAt time.Time
}

// Target is a place where a certificate is to be installed, as far as it is known here.
type Target struct {
	ID string
	// AgentID is empty if the target is not known, or no more.
	AgentID string
	Enabled bool
	// VersionID is what it was last seen to serve of the certificate at hand, if there is one at hand. Where it serves an
	// older version that somebody put in the place of the newest, the newest stands for it.
	VersionID string
}

// Work is a job with what has to be known to work on it.
type Work struct {
	Job
	Name, CommonName string
	SANs             []string
	Environment      string
	OwnerID, TeamID  string
	IssuerID         string
	ProfileID        string
	RenewalPolicyID  string
	Tags             map[string]string
	Targets          []Target
	// CurrentVersionID is the version before this one, empty if there is none.
	CurrentVersionID string
	ExpiresAt        time.Time
	// Retry spaces its attempts.
	Retry retry.Policy
	// inDoubt leaves it to a worker whether it may begin.
	inDoubt bool
	// approval is how long it waits for a person before it begins; zero is not at all.
	approval time.Duration

	// key was just made for it here; made says that its request is of a key that was, now or before.
	key  *StoredKey
	made bool
	// Setbacks are how often in a row its CA was away, WaitingSince since when it waits for one; zero if it does not.
	Setbacks     int
	WaitingSince time.Time
	// Order is what it takes to go on with an order that the CA of OrderIssuerID has taken for CSRPEM.
	Order         []byte
	OrderIssuerID string

	// ca is the issuer's, if it has just been looked up, or whyNot says why there is none; closed is whether it could not be
	// opened, rather than that it is not to be used.
	ca     ca.Issuer
	whyNot error
	closed bool
	// fallbackFor is the certificate's issuer while another is asked, for the reason fallbackWhy.
	fallbackFor, fallbackWhy string
	// breaches are put on record with what becomes of it.
	breaches []Breach
}

func (w *Work) targetIDs() []string {
	ids := make([]string, len(w.Targets))
	for i, t := range w.Targets {
		ids[i] = t.ID
	}
	return ids
}
