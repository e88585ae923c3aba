package permission

import (
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

func TestCheck_AsksForACredentialBeforeItForbids(t *testing.T) {
	admin := authn.Principal{ID: "key-1", Name: "admin", Kind: authn.KindUser, Roles: []string{Admin}}
	nobody := authn.Principal{ID: "key-2", Name: "nobody", Kind: authn.KindUser}
	stranger := authn.Principal{ID: "key-3", Name: "x", Kind: authn.KindUser, Roles: []string{"no-such-role"}}
	both := authn.Principal{ID: "key-4", Name: "y", Kind: authn.KindUser, Roles: []string{Auditor, Viewer}}
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
		{"roles add up: the one", both, "audit:read", ""},
		{"roles add up: the other", both, "certificates:read", ""},
		{"roles add up to no more", both, "certificates:create", fault.Forbidden},
		{"no row of the matrix is matched by a part of its name", both, "audit:", fault.Forbidden},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := fault.CodeOf(Check(c.who, c.permission)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestMatrix_SaysWhoHasEveryPermissionOfTheContract(t *testing.T) {
	for _, op := range httpapi.Operations {
		if !Known(op.Permission) {
			t.Errorf("%s asks for %s, of which matrix.go says nothing", op.ID, op.Permission)
		}
	}
	for permission, roles := range matrix {
		for _, role := range roles {
			if role == Admin || !slices.Contains(Roles(), role) {
				t.Errorf("%s names the role %q", permission, role)
			}
		}
	}
}

// TestMatrix_KeepsWhatEachRoleIsFor are the promises behind the rows.
func TestMatrix_KeepsWhatEachRoleIsFor(t *testing.T) {
	for permission := range matrix {
		resource, action, _ := strings.Cut(permission, ":")
		read := action == "read"
		for role, want := range map[string]bool{
			Admin:   true,
			Auditor: resource == "audit",
			Viewer:  read && resource != "audit" && resource != "api-keys",
		} {
			if Granted(role, permission) != want {
				t.Errorf("%s has %s: %v, want %v", role, permission, !want, want)
			}
		}
		if resource == "audit" && Granted(Operator, permission) || resource == "api-keys" && Granted(Operator, permission) {
			t.Errorf("an operator has %s", permission)
		}
		if Granted(MCP, permission) && !Granted(Operator, permission) {
			t.Errorf("an assistant has %s and an operator has not", permission)
		}
		if Granted(MCP, permission) && slices.Contains([]string{"delete", "archive", "approve", "revoke", "retire"}, action) {
			t.Errorf("an assistant has %s", permission)
		}
		if !read && permission != "jobs:approve" && Granted(Approver, permission) {
			t.Errorf("an approver has %s", permission)
		}
		if permission == "jobs:approve" && Granted(Operator, permission) {
			t.Error("an operator approves his own requests")
		}
	}
}
