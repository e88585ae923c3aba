// Package campaign re-issues many certificates in order: those of a CA that is not to be trusted any more, of an algorithm
// that has to go, or whatever an expression picks.
//
// What is chosen is noted when a campaign is made, and divided into waves. The first, the canary, is small, and has to be
// issued and served wholly before anything else begins. A campaign can be paused, resumed, stopped, and set to retry what
// failed; it stops itself when too much does. It begins no more than so many renewals at a time, in the scope of who asked
// for it, and finds out from the jobs and certificates themselves how they ended. So a replica that dies loses nothing, and
// what it had not committed is done by another.
//
// A rehearsal goes through the same certificates and changes none: it says which would pass.
//
// Nothing here knows SQL or HTTP. What to do next is decided in decide.go, from values.
package campaign

import (
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Status is the state of a campaign.
type Status string

// The states of a campaign.
const (
	// Planned has not been started.
	Planned Status = "Planned"
	Running Status = "Running"
	// Paused begins nothing; what is under way goes on.
	Paused Status = "Paused"
	// Stopped was ended by a person, or by itself after too many failures. It can be resumed.
	Stopped Status = "Stopped"
	// Completed has an outcome for every item.
	Completed Status = "Completed"
)

// ItemStatus is what became of one certificate.
type ItemStatus string

// The states of an item.
const (
	ItemPending ItemStatus = "Pending"
	// ItemRenewing has a job that is not over.
	ItemRenewing ItemStatus = "Renewing"
	// ItemIssued has its new version, which its targets do not serve yet.
	ItemIssued ItemStatus = "Issued"
	// ItemDone has its new version, and all of its targets serve it.
	ItemDone    ItemStatus = "Done"
	ItemFailed  ItemStatus = "Failed"
	ItemSkipped ItemStatus = "Skipped"
	// The outcomes of a rehearsal.
	ItemWouldPass ItemStatus = "WouldPass"
	ItemWouldFail ItemStatus = "WouldFail"
)

const (
	idPrefix = "cmp-"
	// MaxChosen is how many certificates a campaign can have.
	MaxChosen = 500_000
	// MaxWaves is how many waves it can have besides the canary.
	MaxWaves = 1000
	// MaxInFlight bounds how many renewals of a campaign may be under way.
	MaxInFlight = 10_000
	// maxCanary is the largest canary that is chosen by default; it is a hundredth of what is chosen.
	maxCanary = 10
	// CanaryWave is the number of the first wave.
	CanaryWave = 0

	defaultInFlight = 500
	// defaultServeWithin is past what a host is restarted in, and short of what an emergency has.
	defaultServeWithin = time.Hour
	// defaultFailurePercent stops a campaign for which nothing was said.
	defaultFailurePercent = 10
)

// Selection is which certificates are meant: those for which all holds that is not empty.
type Selection struct {
	// IssuerID issued the version in use, whatever the record says now.
	IssuerID string `json:"issuer_id,omitempty"`
	// AuthorityKeyID is the key of the CA that signed the version in use, in lower-case hex.
	AuthorityKeyID string `json:"authority_key_id,omitempty"`
	// CAFingerprint is how that key was named, if it was by a certificate of the CA.
	CAFingerprint string `json:"ca_fingerprint_sha256,omitempty"`
	ProfileID     string `json:"certificate_profile_id,omitempty"`
	KeyAlgorithm  string `json:"key_algorithm,omitempty"`
	KeySize       int    `json:"key_size,omitempty"`
	// Q is a search expression.
	Q string `json:"q,omitempty"`
}

// Settings are how a campaign goes about it.
type Settings struct {
	Name      string
	Rehearsal bool
	// ReuseCSR has certificates whose requester holds the key issued again with the request of their version. Else they are
	// skipped.
	ReuseCSR bool
	// ToIssuerID and ToProfileID are what the records get; nil leaves them as they are.
	ToIssuerID, ToProfileID *string
	// WaveSize is how many certificates a wave has after the canary, zero for all of them.
	WaveSize     int
	PauseBetween time.Duration
	// MaxFailures and MaxFailurePercent stop it when more fail than that; nil is no limit.
	MaxFailures, MaxFailurePercent *int
	// InFlight is how many renewals may be under way.
	InFlight int
	// ServeWithin is how long targets have to serve a new version. One that is not served by then counts as failed, so that
	// a host that is away holds up nobody else; it goes on being installed.
	ServeWithin time.Duration
}

// Unserved is why an item has failed whose targets have had their time.
func (s *Settings) Unserved() string {
	return "its targets do not serve the new version after " + s.ServeWithin.String() + "; it goes on being installed, and once it is a retry finds it done"
}

// Counts are how many items are in which state. Of a rehearsal, Done would pass and Failed would not.
type Counts struct {
	Total, Pending, Renewing, Issued, Done, Failed, Skipped int
}

// UnderWay is how many have begun and not ended.
func (c Counts) UnderWay() int { return c.Renewing + c.Issued }

// Ended is how many have had an outcome of their own.
func (c Counts) Ended() int { return c.Done + c.Failed }

// Move notes that so many items went from one state to another.
func (c *Counts) Move(from, to ItemStatus, n int) {
	*c.of(from) -= n
	*c.of(to) += n
}

func (c *Counts) of(s ItemStatus) *int {
	switch s {
	case ItemPending:
		return &c.Pending
	case ItemRenewing:
		return &c.Renewing
	case ItemIssued:
		return &c.Issued
	case ItemDone, ItemWouldPass:
		return &c.Done
	case ItemFailed, ItemWouldFail:
		return &c.Failed
	case ItemSkipped:
		return &c.Skipped
	}
	panic("a campaign's item is " + string(s))
}

// Campaign is a re-issue of many certificates.
type Campaign struct {
	ID        string
	Status    Status
	Reason    string
	Selection Selection
	Settings
	// Canary is how many certificates the first wave has.
	Canary int
	// Plan is what was foreseen when it was made.
	Plan   Plan
	Scope  authn.Scope
	Origin issuance.Origin

	Counts
	// Wave is the one that is worked on, Last the last one. Nothing of it begins before ReadyAt.
	Wave, Last int
	ReadyAt    time.Time
	// ResumedAt is when it was last set going; what had failed by then is forgiven.
	ResumedAt            time.Time
	BaseDone, BaseFailed int
	// BaseWave is the wave that it was at then.
	BaseWave int
	Revision int64

	CreatedAt, StartedAt, CompletedAt time.Time
}

// Rate is how many items a second have ended since the campaign was last set going, pauses between waves left out; zero
// while that says nothing.
func (c *Campaign) Rate(now time.Time) float64 {
	until := now
	if !c.CompletedAt.IsZero() {
		until = c.CompletedAt
	}
	ended := c.Ended() - c.BaseDone - c.BaseFailed
	took := until.Sub(c.ResumedAt) - time.Duration(c.Wave-c.BaseWave)*c.PauseBetween + c.waits(until)
	if !c.ResumedAt.IsZero() && took > 0 && ended > 0 {
		return float64(ended) / took.Seconds()
	}
	return 0
}

// waits is how long the wave at hand has yet to wait.
func (c *Campaign) waits(now time.Time) time.Duration { return max(0, c.ReadyAt.Sub(now)) }

// Left is how long the campaign will take yet at its rate, false while that cannot be said.
func (c *Campaign) Left(now time.Time) (time.Duration, bool) {
	rate := c.Rate(now)
	if c.Status != Running || rate == 0 {
		return 0, false
	}
	left := time.Duration(float64(c.Pending+c.UnderWay()) / rate * float64(time.Second))
	return left + time.Duration(c.Last-c.Wave)*c.PauseBetween + c.waits(now), true
}

// Wave is a part of a campaign that is done before the next begins.
type Wave struct {
	Number int
	Counts
	StartedAt, CompletedAt time.Time
}

// Item is one certificate of a campaign.
type Item struct {
	Position, Wave                 int
	CertificateID                  string
	CommonName                     string
	OwnerID, TeamID, Environment   string
	Status                         ItemStatus
	Reason                         string
	JobID                          string
	OldVersionID, NewVersionID     string
	OldFingerprint, NewFingerprint string
	// The keys of the CAs that signed them, and the issuers.
	OldAuthorityKeyID, NewAuthorityKeyID string
	OldIssuerID, NewIssuerID             string
	OldNotAfter, NewNotAfter             time.Time
	BegunAt, EndedAt                     time.Time
}
