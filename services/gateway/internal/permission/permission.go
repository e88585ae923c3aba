// Package permission decides whether a principal may use an operation at all. Which
// rows it then sees is the owner's decision, by the principal's scope.
//
// The whole of it is the table in matrix.go. docs/operations/permissions.gen.md shows it
// operation by operation.
package permission

import (
	"slices"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
)

// What an operation can ask for besides a row of the matrix.
const (
	// Open needs no credential, and is not checked.
	Open = "open"
	// Authenticated is granted to whoever was recognised.
	Authenticated = "authenticated"
)

// Check returns nil if p may do what permission names. Operations whose permission is
// [Open] are not asked about.
func Check(p authn.Principal, permission string) error {
	if p.ID == "" || p.Kind == authn.KindAnonymous {
		return fault.New(fault.Unauthenticated, "no valid credential; send the header Authorization: Bearer <key>")
	}
	if permission == Authenticated || slices.ContainsFunc(p.Roles, func(role string) bool { return Granted(role, permission) }) {
		return nil
	}
	return fault.New(fault.Forbidden, "%s may not do %s", p.Name, permission)
}

// Granted reports whether a role includes a permission. A role that is not known
// includes none.
func Granted(role, permission string) bool {
	if permission == Open || permission == Authenticated {
		return slices.Contains(Roles(), role)
	}
	return role == Admin || slices.Contains(matrix[permission], role)
}

// Known reports whether the matrix says who has a permission.
func Known(permission string) bool {
	_, found := matrix[permission]
	return found || permission == Open || permission == Authenticated
}
