package jwt

import (
	"slices"
	"strings"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

// claims are what a token says, beside what the standard defines.
type claims map[string]any

// list is a claim of texts: a list, or one text whose parts are separated by spaces. A name
// that no claim has leads by its dots into objects.
func (c claims) list(name string) []string {
	value, found := c[name]
	if first, rest, dotted := strings.Cut(name, "."); !found && dotted {
		inner, _ := c[first].(map[string]any)
		return claims(inner).list(rest)
	}
	switch v := value.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		var texts []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				texts = append(texts, s)
			}
		}
		return texts
	}
	return nil
}

// roles are those that a token gives, in the order of the matrix.
func (c Config) roles(from claims) []string {
	given := from.list(c.RolesClaim)
	if len(c.RoleMapping) > 0 {
		mapped := []string{}
		for _, g := range given {
			mapped = append(mapped, c.RoleMapping[g])
		}
		given = mapped
	}
	return slices.DeleteFunc(permission.Roles(), func(role string) bool { return !slices.Contains(given, role) })
}

// scope is what a token limits its holder to. A dimension whose claim is configured and
// missing admits nothing, so that an issuer's slip opens nothing.
func (c Config) scope(from claims) authn.Scope {
	limit := func(claim string) []string {
		if claim == "" {
			return nil
		}
		ids := from.list(claim)
		if slices.Contains(ids, "*") {
			return nil
		}
		return append([]string{}, ids...)
	}
	return authn.Scope{
		Teams: limit(c.TeamsClaim), Environments: limit(c.EnvironmentsClaim), Issuers: limit(c.IssuersClaim), Profiles: limit(c.ProfilesClaim),
	}
}
