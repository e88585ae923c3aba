package apikey

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

const (
	maxName = 255
	// maxScope is how many ids a dimension of a scope may list.
	maxScope = 100
	// shown is how much of a key is kept to tell it from others: what all keys begin with
	// and 48 of its 256 random bits.
	shown = len(authn.KeyPrefix) + 8
	// MaxOverlap is how long a key may stay good beside the one that replaces it.
	MaxOverlap = 30 * 24 * time.Hour
)

// Key is what is known of a key.
type Key struct {
	ID   string
	Name string
	// Prefix is how the key begins.
	Prefix    string
	Roles     []string
	Scope     authn.Scope
	CreatedBy string
	CreatedAt time.Time
	UpdatedAt time.Time
	// Revision grows with every change but the note of a use.
	Revision int64
	// What follows is nil where it has not happened or never will.
	ExpiresAt  *time.Time
	RevokedAt  *time.Time
	LastUsedAt *time.Time
	// PreviousUntil is until when the key before the last rotation is good.
	PreviousUntil *time.Time
}

// Good reports whether the key is accepted.
func (k Key) Good(now time.Time) bool {
	return k.RevokedAt == nil && (k.ExpiresAt == nil || now.Before(*k.ExpiresAt))
}

// touch notes a change.
func (k *Key) touch(now time.Time) { k.UpdatedAt, k.Revision = now, k.Revision+1 }

// opensAll reports whether the key lets its holder do everything, so that with it nobody is
// locked out.
func (k Key) opensAll(now time.Time) bool {
	return k.Good(now) && k.Scope.Unlimited() && slices.Contains(k.Roles, permission.Admin)
}

// check brings what a client gave into its one form, and names what is wrong with it.
func (k *Key) check(now time.Time) error {
	var wrong []fault.Field
	refuse := func(field, format string, a ...any) {
		wrong = append(wrong, fault.Field{Name: field, Reason: fmt.Sprintf(format, a...)})
	}
	k.Name = strings.TrimSpace(k.Name)
	if k.Name == "" || len(k.Name) > maxName {
		refuse("name", "must have 1 to %d bytes", maxName)
	}
	if len(k.Roles) == 0 {
		refuse("roles", "must name at least one of %s", strings.Join(permission.Roles(), ", "))
	}
	for i, role := range k.Roles {
		if !slices.Contains(permission.Roles(), role) {
			refuse(fmt.Sprintf("roles[%d]", i), "%q is no role; there are %s", role, strings.Join(permission.Roles(), ", "))
		}
	}
	k.Roles = inOrder(k.Roles)
	for dimension, ids := range dimensions(&k.Scope) {
		if len(*ids) > maxScope {
			refuse("scope."+dimension, "must list at most %d", maxScope)
		}
		for i, id := range *ids {
			if id == "" || len(id) > maxName {
				refuse(fmt.Sprintf("scope.%s[%d]", dimension, i), "must have 1 to %d bytes", maxName)
			}
		}
	}
	if k.ExpiresAt != nil && !k.ExpiresAt.After(now) {
		refuse("expires_at", "must be in the future")
	}
	if len(wrong) > 0 {
		slices.SortFunc(wrong, func(x, y fault.Field) int { return strings.Compare(x.Name, y.Name) })
		return fault.InvalidFields(wrong...)
	}
	return nil
}

// inOrder is a list of roles, each once, in the order of the matrix.
func inOrder(roles []string) []string {
	return slices.DeleteFunc(permission.Roles(), func(role string) bool { return !slices.Contains(roles, role) })
}

func dimensions(s *authn.Scope) map[string]*[]string {
	return map[string]*[]string{
		"teams": &s.Teams, "environments": &s.Environments, "issuers": &s.Issuers, "profiles": &s.Profiles,
	}
}

// mayHandOut refuses a caller who would give away, or get hold of, more than he has.
func mayHandOut(p authn.Principal, k Key) error {
	if !p.HasRole(permission.Admin) {
		for _, role := range k.Roles {
			if !p.HasRole(role) {
				return fault.New(fault.Forbidden, "%s has not got the role %s, so it cannot hand it out", p.Name, role)
			}
		}
	}
	if !within(k.Scope, p.Scope) {
		return fault.New(fault.Forbidden, "the scope of the key would be wider than that of %s", p.Name)
	}
	return nil
}

// within reports whether a scope admits nothing that the other does not.
func within(inner, outer authn.Scope) bool {
	in, out := dimensions(&inner), dimensions(&outer)
	for dimension, limit := range out {
		if *limit == nil {
			continue
		}
		if *in[dimension] == nil || !contains(*limit, *in[dimension]) {
			return false
		}
	}
	return true
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
