// Package bulk does one thing to many certificates: renews, archives or reassigns them.
//
// What is chosen is noted when an operation is made. It is then worked on in batches, each with its events and the
// outcome of its items in one transaction, by whichever replica is free. An item either succeeds or is refused with a
// reason, as it would be alone; one refusal stops nothing. Items are judged within the scope of who asked, as of when they
// are worked on.
//
// Nothing here knows SQL or HTTP.
package bulk

import (
	"encoding/json"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// Action is what is done to each certificate.
type Action string

// The actions.
const (
	Renew    Action = "renew"
	Archive  Action = "archive"
	Reassign Action = "reassign"
)

// Status is the state of an operation.
type Status string

// The states of an operation. The last three are final.
const (
	Pending   Status = "Pending"
	Running   Status = "Running"
	Completed Status = "Completed"
	// Failed met what no item is to blame for; items without an outcome are Cancelled.
	Failed    Status = "Failed"
	Cancelled Status = "Cancelled"
)

// ItemStatus is what became of one certificate.
type ItemStatus string

// The states of an item. All but the first are final.
const (
	ItemPending   ItemStatus = "Pending"
	ItemSucceeded ItemStatus = "Succeeded"
	ItemRefused   ItemStatus = "Refused"
	ItemCancelled ItemStatus = "Cancelled"
)

const (
	idPrefix = "bulk-"
	// MaxIDs is how many certificates can be given by their ids.
	MaxIDs = 10_000
	// MaxChosen is how many can be chosen by a filter.
	MaxChosen = 100_000
)

// Destination is what a reassignment sets. Nil leaves a field as it is.
type Destination struct {
	OwnerID, TeamID, Environment *string
}

// Selection is which certificates are meant: those of the ids, or else those that the filter admits.
type Selection struct {
	IDs    []string
	Filter *issuance.Filter
	// Shown is the filter as it came.
	Shown json.RawMessage
}

// Operation is one action on many certificates.
type Operation struct {
	ID     string
	Action Action
	Status Status
	To     Destination
	Filter json.RawMessage
	// Scope is the one of who asked, and Origin says who that is.
	Scope  authn.Scope
	Origin issuance.Origin

	Total, Pending, Succeeded, Refused, Cancelled int

	Error                             string
	CreatedAt, StartedAt, CompletedAt time.Time
}

// Item is one certificate of an operation.
type Item struct {
	Position      int
	CertificateID string
	Status        ItemStatus
	// Reason says why it was refused.
	Reason string
	// JobID is the job that a renewal began.
	JobID string
}

// Chosen is a certificate that is meant. First is its first target as far as it is known, if it has any.
type Chosen struct {
	issuance.Certificate
	First issuance.Target
}

// refusal says why an action other than a renewal would be refused for a certificate; nil if it would not.
func refusal(a Action, c *Chosen) error {
	switch {
	case a == Renew:
		return nil
	case c.Status == issuance.Archived && a == Archive:
		return fault.New(fault.Conflict, "certificate %s is archived already", c.ID)
	case c.Status == issuance.Archived:
		return fault.New(fault.Conflict, "certificate %s is archived, and archived certificates are not changed", c.ID)
	default:
		return nil
	}
}

// absent is the refusal of what is not there, or not within the scope.
func absent(certificateID string) string { return "there is no certificate " + certificateID }

// Named is how many ids and refusals a plan lists.
const Named = 100

// Plan is what an operation would do.
type Plan struct {
	Action                      Action
	Total, WouldChange          int
	ByStatus, ByOwner, ByIssuer map[string]int
	IDs                         []string
	WouldRefuse                 int
	Refusals                    []Item
}

func newPlan(a Action) *Plan {
	return &Plan{Action: a, ByStatus: map[string]int{}, ByOwner: map[string]int{}, ByIssuer: map[string]int{}}
}

// change adds a certificate that would be changed.
func (p *Plan) change(c *Chosen) {
	p.Total++
	p.WouldChange++
	p.ByStatus[string(c.Status)]++
	p.ByOwner[c.OwnerID]++
	p.ByIssuer[c.IssuerID]++
	if len(p.IDs) < Named {
		p.IDs = append(p.IDs, c.ID)
	}
}

func (p *Plan) refuse(certificateID, reason string) {
	p.Total++
	p.WouldRefuse++
	if len(p.Refusals) < Named {
		p.Refusals = append(p.Refusals, Item{CertificateID: certificateID, Status: ItemRefused, Reason: reason})
	}
}
