package issuance

import (
	"time"

	"github.com/certctl/certctl/contracts/event"
)

// Fact is an event to be told, in the transaction that makes it true.
type Fact struct {
	Event event.Event
	Origin
	// CausationID is the message that led to it, if one did.
	CausationID string
	At          time.Time
}

// Creation is a new certificate with its first job, and with its first version if it was signed at once. The facts are
// told in their order.
type Creation struct {
	Certificate Certificate
	Job         Job
	Version     *Version
	Facts       []Fact
	// Breaches are put on record with it.
	Breaches []Breach
}

// Start is the beginning of a renewal: a job for a certificate that exists, and what becomes of its status. With a version
// the job is over as it begins.
type Start struct {
	// Seen is the state in which the certificate was found, and has to be still; Revision its revision, if that has to be
	// the same too.
	Seen     CertificateStatus
	Revision int64
	Job      Job
	Status   CertificateStatus
	Reason   string
	Version  *Version
	// Facts are told in their order.
	Facts []Fact
	// Breaches are put on record with it.
	Breaches []Breach
}

// Change is what becomes of a job and of its certificate in one step.
type Change struct {
	JobID string
	// Token is the job's newest; with an older one the change is refused.
	Token        int64
	Status       JobStatus
	Attempts     int
	AgentID      string
	CSRPEM       string
	LastError    string
	NextActionAt time.Time
	At           time.Time
	// Asks is the issuer for whose CA it waits for a place; see [Work] for the others.
	Asks         string
	Setbacks     int
	WaitingSince time.Time

	// CertificateStatus is the certificate's new state, empty to leave it as it is.
	CertificateStatus CertificateStatus
	Reason            string
	// Version is what the job made. LastRenewalAt follows from it for a renewal.
	Version *Version
	Renewal bool
	// Key is one that was made for the job and is stored with the change.
	Key *StoredKey
	// Fact is nil where nothing is to be told.
	Fact *Fact
	// Breaches are put on record with it.
	Breaches []Breach
}

// fact is a fact that follows from a job.
func (w *Work) fact(e event.Event, at time.Time, causation string) *Fact {
	return &Fact{Event: e, Origin: w.Origin, CausationID: causation, At: at}
}

// change starts a change of the job that leaves everything as it is but the status.
func (w *Work) change(status JobStatus, at time.Time) Change {
	return Change{
		JobID: w.ID, Token: w.Token, Status: status, Attempts: w.Attempts, AgentID: w.AgentID, CSRPEM: w.CSRPEM,
		LastError: w.LastError, At: at, Key: w.key,
	}
}
