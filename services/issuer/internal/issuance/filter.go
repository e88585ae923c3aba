package issuance

import (
	"time"

	"github.com/certctl/certctl/libs/search"
)

// Filter says which certificates are wanted. Nil fields ask for nothing.
type Filter struct {
	Statuses                                          []string
	Environment, OwnerID, TeamID, IssuerID, ProfileID *string
	// AgentID looks after at least one of the certificate's targets.
	AgentID                                                 *string
	ExpiresBefore, ExpiresAfter, CreatedAfter, UpdatedAfter *time.Time
	Search                                                  search.Query
}
