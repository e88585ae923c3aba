// Package organisation holds teams and the owners of certificates, and who may change them.
//
// A principal that is limited to teams sees and changes those teams and their owners, and nothing else. One that is
// limited in other dimensions only sees all of them, since its certificates refer to them, and changes none: a team
// serves every environment, issuer and profile.
package organisation

import (
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
)

// What a fresh installation has, and certificates refer to that name none.
const (
	DefaultTeam  = "t-default"
	DefaultOwner = "o-default"
)

const (
	maxName        = 255
	maxDescription = 2000
	// RFC 5321 section 4.5.3.1.3 leaves an address that many octets.
	maxEmail   = 254
	maxMembers = 500
)

// mayChange refuses a principal whose scope does not hold the teams.
func mayChange(p authn.Principal, teams ...string) error {
	if p.Scope.Teams == nil && !p.Scope.Unlimited() {
		return fault.New(fault.Forbidden, "your key is limited to some environments, issuers or profiles, and a team serves all of them")
	}
	if !p.Can(authn.Scope{Teams: teams}) {
		return fault.New(fault.Forbidden, "your scope does not hold team %s", strings.Join(teams, " and team "))
	}
	return nil
}

// checks gathers the fields at fault.
type checks []fault.Field

func (c *checks) object(field, reason string) {
	*c = append(*c, fault.Field{Name: field, Reason: reason})
}

func (c *checks) err() error {
	if len(*c) == 0 {
		return nil
	}
	return fault.InvalidFields(*c...)
}

func (c *checks) id(s string) {
	if !id.Valid(s) {
		c.object("id", "must be 1 to 64 of a-z, 0-9, - and _, beginning with a letter or a digit")
	}
}

func (c *checks) name(field, s string) {
	switch {
	case s == "":
		c.object(field, "is required")
	case utf8.RuneCountInString(s) > maxName:
		c.object(field, "has more than 255 characters")
	case !printable(s):
		c.object(field, "holds control characters")
	}
}

// text may run over several lines.
func (c *checks) text(field, s string) {
	switch {
	case utf8.RuneCountInString(s) > maxDescription:
		c.object(field, "has more than 2000 characters")
	case !printable(strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(s)):
		c.object(field, "holds control characters")
	}
}

// email takes an address as mail programs write it on its own, or none.
func (c *checks) email(field, s string) {
	if s == "" {
		return
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > maxEmail || !printable(s) {
		c.object(field, "is no e-mail address")
	}
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
