package organisation

import (
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/issuer/internal/record"
)

const ownerPrefix = "o-"

// Owner is who answers for certificates.
type Owner struct {
	ID, Name, Email, TeamID string
	CreatedAt, UpdatedAt    time.Time
	// Revision grows with every change.
	Revision int64
}

// OwnerUpdate is what is to be different about an owner. Nil leaves a field as it is.
type OwnerUpdate struct {
	Name, Email, TeamID *string
}

// newOwner is the owner that is asked for, in normal form. An empty id is made here; without a team it is in the
// default one.
func newOwner(ownerID string, u OwnerUpdate, now time.Time) (Owner, error) {
	o := Owner{ID: ownerID, TeamID: DefaultTeam, CreatedAt: now, Revision: 1}
	if o.ID == "" {
		o.ID = id.New(ownerPrefix)
	}
	return o.with(u, now)
}

// with is the owner after an update. An empty team is none given, as older clients send it.
func (o Owner) with(u OwnerUpdate, now time.Time) (Owner, error) {
	set(&o.Name, u.Name)
	set(&o.Email, u.Email)
	if u.TeamID != nil && *u.TeamID != "" {
		o.TeamID = *u.TeamID
	}
	o.UpdatedAt = now
	var c checks
	c.id(o.ID)
	c.name("name", o.Name)
	c.email("email", o.Email)
	if !id.Valid(o.TeamID) {
		c.object("team_id", "is no valid id")
	}
	return o, c.err()
}

func (o *Owner) fields() record.Fields {
	return record.Fields{"name": o.Name, "email": o.Email, "team_id": o.TeamID}
}

func (o *Owner) changed(verb string, changes event.Changes) event.Event {
	return event.OwnerChanged{Record: event.Record{ID: o.ID, Name: o.Name, Verb: verb, Changes: changes}}
}
