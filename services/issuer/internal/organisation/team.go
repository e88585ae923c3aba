package organisation

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/services/issuer/internal/record"
)

const teamPrefix = "t-"

// Member is a person in a team.
type Member struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Team is a group of people that certificates belong to.
type Team struct {
	ID, Name, Description, Email string
	Members                      []Member
	CreatedAt, UpdatedAt         time.Time
	// Revision grows with every change.
	Revision int64
}

// TeamUpdate is what is to be different about a team. Nil leaves a field as it is.
type TeamUpdate struct {
	Name, Description, Email *string
	Members                  *[]Member
}

// newTeam is the team that is asked for, in normal form. An empty id is made here.
func newTeam(teamID string, u TeamUpdate, now time.Time) (Team, error) {
	t := Team{ID: teamID, CreatedAt: now, Revision: 1}
	if t.ID == "" {
		t.ID = id.New(teamPrefix)
	}
	return t.with(u, now)
}

// with is the team after an update.
func (t Team) with(u TeamUpdate, now time.Time) (Team, error) {
	set(&t.Name, u.Name)
	set(&t.Description, u.Description)
	set(&t.Email, u.Email)
	if u.Members != nil {
		t.Members = slices.Clone(*u.Members)
	}
	t.UpdatedAt = now
	var c checks
	c.id(t.ID)
	c.name("name", t.Name)
	c.text("description", t.Description)
	c.email("email", t.Email)
	if len(t.Members) > maxMembers {
		c.object("members", "has more than "+strconv.Itoa(maxMembers)+" entries")
		return t, c.err()
	}
	for i := range t.Members {
		m := &t.Members[i]
		m.Name, m.Email = strings.TrimSpace(m.Name), strings.TrimSpace(m.Email)
		at := "members[" + strconv.Itoa(i) + "]."
		c.name(at+"name", m.Name)
		c.email(at+"email", m.Email)
	}
	return t, c.err()
}

func set(field *string, to *string) {
	if to != nil {
		*field = strings.TrimSpace(*to)
	}
}

func (t *Team) fields() record.Fields {
	members := t.Members
	if members == nil {
		members = []Member{}
	}
	return record.Fields{"name": t.Name, "description": t.Description, "email": t.Email, "members": members}
}

func (t *Team) changed(verb string, changes event.Changes) event.Event {
	return event.TeamChanged{Record: event.Record{ID: t.ID, Name: t.Name, Verb: verb, Changes: changes}}
}
