package permission

import (
	"testing"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

func TestCheck_AsksForACredentialBeforeItForbids(t *testing.T) {
	admin := authn.Principal{ID: "key-1", Name: "admin", Kind: authn.KindUser, Roles: []string{Admin}}
	nobody := authn.Principal{ID: "key-2", Name: "nobody", Kind: authn.KindUser}
	stranger := authn.Principal{ID: "key-3", Name: "x", Kind: authn.KindUser, Roles: []string{"no-such-role"}}
	cases := []struct {
		name       string
		who        authn.Principal
		permission string
		want       fault.Code
	}{
		{"the zero principal", authn.Principal{}, "certificates:read", fault.Unauthenticated},
		{"anonymous", authn.Anonymous(), "authenticated", fault.Unauthenticated},
		{"an admin reads", admin, "certificates:read", ""},
		{"an admin does what is new", admin, "unheard:of", ""},
		{"a key without roles is recognised", nobody, "authenticated", ""},
		{"a key without roles may do nothing", nobody, "certificates:read", fault.Forbidden},
		{"an unknown role grants nothing", stranger, "certificates:read", fault.Forbidden},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := fault.CodeOf(Check(c.who, c.permission)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestCovers_MatchesEachPartByItself(t *testing.T) {
	for grant, want := range map[string]bool{
		"jobs:read": true, "jobs:*": true, "*:read": true, "*": true,
		"jobs:cancel": false, "certificates:read": false, "job:read": false, "": false,
	} {
		if got := covers(grant, "jobs:read"); got != want {
			t.Errorf("covers(%q) = %v", grant, got)
		}
	}
}
