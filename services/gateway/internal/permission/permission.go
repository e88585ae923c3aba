// Package permission decides whether a principal may use an operation at all. Which
// rows it then sees is the owner's decision, by the principal's scope.
package permission

import (
	"strings"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

// Admin is the role that may do everything.
const Admin = "admin"

// grants lists what each role may do: "*", or "<resource>:<action>" in which either
// part may be "*".
var grants = map[string][]string{
	Admin: {"*"},
}

// Check returns nil if p may do what permission names. Operations whose permission is
// "open" are not asked about; "authenticated" is granted to whoever was recognised.
func Check(p authn.Principal, permission string) error {
	if p.ID == "" || p.Kind == authn.KindAnonymous {
		return fault.New(fault.Unauthenticated, "no valid credential; send the header Authorization: Bearer <key>")
	}
	if permission == "authenticated" {
		return nil
	}
	for _, role := range p.Roles {
		for _, grant := range grants[role] {
			if covers(grant, permission) {
				return nil
			}
		}
	}
	return fault.New(fault.Forbidden, "%s may not do %s", p.Name, permission)
}

func covers(grant, permission string) bool {
	if grant == "*" {
		return true
	}
	resource, action, _ := strings.Cut(permission, ":")
	grantedResource, grantedAction, _ := strings.Cut(grant, ":")
	return (grantedResource == "*" || grantedResource == resource) &&
		(grantedAction == "*" || grantedAction == action)
}
