package campaign

import (
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Move is what a campaign does next.
type Move int

const (
	// Wait has nothing to do before something happens, or before a time.
	Wait Move = iota
	// Begin takes up the next items of the wave.
	Begin
	// NextWave goes on to the next wave.
	NextWave
	// Stop ends it because too much has failed.
	Stop
	// Complete ends it because every item has an outcome.
	Complete
)

// Decision is what a campaign does next, with what belongs to it.
type Decision struct {
	Move Move
	// Count is how many items begin.
	Count int
	// At is when to decide again, zero if only something that happens can change it.
	At time.Time
	// Reason says why it stops.
	Reason string
}

const (
	// batchSize is how many items are begun in one transaction: enough to spread its cost, few enough that a pause and
	// whoever wants one of these certificates do not wait.
	batchSize = 400
	// fewest is how many items have to have ended before a share of failures says anything.
	fewest = 20
)

// Next decides what a campaign does next, where wave has the counts of the wave that is worked on.
func Next(c *Campaign, wave Counts, now time.Time) Decision {
	if c.Status != Running {
		return Decision{}
	}
	over := wave.Pending+wave.UnderWay() == 0
	if reason, stop := tooMany(c, wave, over); stop {
		return Decision{Move: Stop, Reason: reason}
	}
	switch {
	case over && c.Wave >= c.Last:
		return Decision{Move: Complete}
	case over:
		return Decision{Move: NextWave}
	case wave.Pending > 0 && now.Before(c.ReadyAt):
		return Decision{At: c.ReadyAt}
	}
	if room := c.InFlight - c.UnderWay(); wave.Pending > 0 && room > 0 {
		return Decision{Move: Begin, Count: min(room, wave.Pending, batchSize)}
	}
	return Decision{}
}

// tooMany says why a campaign is to stop, if it is: the canary has failed, or more has failed than it may. What had failed
// before it was resumed does not count. A rehearsal goes on to the end.
func tooMany(c *Campaign, wave Counts, over bool) (string, bool) {
	failed := c.Failed - c.BaseFailed
	if c.Rehearsal || failed <= 0 {
		return "", false
	}
	ended := c.Ended() - c.BaseDone - c.BaseFailed
	switch {
	case c.Wave == CanaryWave && wave.Failed > 0:
		return fmt.Sprintf("%d of the canary's %d failed", wave.Failed, wave.Total), true
	case c.MaxFailures != nil && failed > *c.MaxFailures:
		return fmt.Sprintf("%d failed, more than the %d that may", failed, *c.MaxFailures), true
	case c.MaxFailurePercent != nil && (ended >= fewest || over) && failed*100 > *c.MaxFailurePercent*ended:
		return fmt.Sprintf("%d of %d failed, more than the %d %% that may", failed, ended, *c.MaxFailurePercent), true
	default:
		return "", false
	}
}

// canaryOf is how many certificates the first wave has unless somebody says so: a hundredth, from 1 to 10.
func canaryOf(chosen int) int { return max(1, min(maxCanary, chosen/100)) }

// moved is a certificate as it is to be: with the issuer and the profile that the campaign gives it.
func (s *Settings) moved(c issuance.Certificate) issuance.Certificate {
	if s.ToIssuerID != nil {
		c.IssuerID = *s.ToIssuerID
	}
	if s.ToProfileID != nil {
		c.ProfileID = *s.ToProfileID
	}
	return c
}

// Leaves is what a campaign gets away from: the key of a CA, or an issuer from which certificates are moved. What is signed by
// it again is not done. Both are empty if it only re-issues.
func (c *Campaign) Leaves() (authorityKeyID, issuerID string) {
	if c.ToIssuerID != nil && *c.ToIssuerID != c.Selection.IssuerID {
		issuerID = c.Selection.IssuerID
	}
	return c.Selection.AuthorityKeyID, issuerID
}

// flees reports whether the version in use is signed by what a campaign gets away from.
func (c *Campaign) flees(chosen *Chosen) bool {
	key, issuer := c.Leaves()
	return key != "" && chosen.AuthorityKeyID == key || issuer != "" && chosen.VersionIssuerID == issuer
}

// insists reports whether a certificate that has had another version since it was chosen is to be re-issued all the same,
// as long as the selection still admits it.
func (c *Campaign) insists() bool {
	key, issuer := c.Leaves()
	return key != "" || issuer != ""
}

// holds tells that a certificate's key is its requester's, who has to hand in a request for another.
const holds = "its requester holds the key; tell them"

// skip says why a certificate is left as it is although it can be renewed, if it is.
func skip(c *Campaign, chosen *Chosen, oldVersionID string) (string, bool) {
	switch {
	case chosen.Status == issuance.Archived:
		return "it was archived meanwhile", true
	case chosen.Status == issuance.Revoked:
		return "it was revoked meanwhile, and revoked certificates are never renewed", true
	case chosen.VersionID != oldVersionID && (!c.insists() || !chosen.Still):
		return "it has had another version since it was chosen", true
	case len(chosen.TargetIDs) > 0:
		return "", false
	case !c.ReuseCSR:
		return holds, true
	case chosen.CSRPEM == "":
		return "its request was not kept, and " + holds, true
	default:
		return "", false
	}
}

// Kind is a kind of refusal, by which plans count them.
type Kind string

// The kinds of refusals.
const (
	KindArchived Kind = "archived"
	KindRevoked  Kind = "revoked"
	KindKeyHeld  Kind = "key_held_by_requester"
	KindUnderWay Kind = "under_way"
	KindPolicy   Kind = "policy"
)

// refusal says whether and why a certificate would not be re-issued, as far as can be told now. May is what the rules of
// renewal say.
func refusal(s *Settings, chosen *Chosen, may error) (Kind, string) {
	switch {
	case chosen.Status == issuance.Archived:
		return KindArchived, fault.From(may).Message
	case chosen.Status == issuance.Revoked:
		return KindRevoked, fault.From(may).Message
	case len(chosen.TargetIDs) == 0 && !s.ReuseCSR:
		return KindKeyHeld, holds
	case len(chosen.TargetIDs) == 0 && chosen.CSRPEM == "":
		return KindKeyHeld, "its request was not kept, and " + holds
	case may == nil:
		return "", ""
	case issuance.Renewable(&chosen.Certificate) != nil:
		return KindUnderWay, fault.From(may).Message
	default:
		return KindPolicy, fault.From(may).Message
	}
}
