// Package authn says who asks.
//
// The gateway authenticates a caller once and sends the resulting Principal with the request; owners trust the header
// because the bus's permissions let nobody else put requests on their subjects. A Principal says who the caller is and
// within which scope it may act. Whether an operation is open to its roles is the gateway's decision; which rows it
// touches is the owner's, who filters by Scope.
//
// The package also makes API keys and their hashes. It stores nothing.
package authn

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/certctl/certctl/libs/fault"
)

// Header is the name of the header that carries the principal of a request between services.
const Header = "Certctl-Principal"

// Kind says what sort of caller a principal is.
type Kind string

const (
	// KindUser is a person, or a script with a person's key.
	KindUser Kind = "user"
	// KindAgent is an agent on a host, known by its id.
	KindAgent Kind = "agent"
	// KindSystem is one of our own services acting of its own accord.
	KindSystem Kind = "system"
	// KindAnonymous is a caller that was not asked who it is.
	KindAnonymous Kind = "anonymous"
)

// Principal is an authenticated caller. The zero value is nobody and may do nothing.
type Principal struct {
	ID    string   `json:"id"`
	Name  string   `json:"name,omitempty"`
	Kind  Kind     `json:"kind"`
	Roles []string `json:"roles,omitempty"`
	Scope Scope    `json:"scope,omitzero"`
}

// Scope limits a principal to what carries one of the listed ids, in each dimension by itself. A nil list limits
// nothing; an empty list that is not nil admits nothing, and stays so across the header.
type Scope struct {
	Teams        []string `json:"teams,omitzero"`
	Environments []string `json:"environments,omitzero"`
	Issuers      []string `json:"issuers,omitzero"`
	Profiles     []string `json:"profiles,omitzero"`
}

// Anonymous is the principal of a request to an open operation.
func Anonymous() Principal { return Principal{ID: "anonymous", Kind: KindAnonymous} }

// System returns the principal of one of our own services.
func System(service string) Principal {
	return Principal{ID: service, Name: service, Kind: KindSystem}
}

// Agent returns the principal of an agent.
func Agent(id string) Principal { return Principal{ID: id, Name: id, Kind: KindAgent} }

// Can reports whether the principal's scope holds everything that want names. A dimension that want leaves nil is not
// asked about; a thing without a value in a dimension asks with the empty string, which only an unlimited scope holds.
func (p Principal) Can(want Scope) bool {
	if p.Kind == "" {
		return false
	}
	have := p.Scope
	return holds(have.Teams, want.Teams) && holds(have.Environments, want.Environments) &&
		holds(have.Issuers, want.Issuers) && holds(have.Profiles, want.Profiles)
}

// Unlimited reports whether the scope limits nothing.
func (s Scope) Unlimited() bool {
	return s.Teams == nil && s.Environments == nil && s.Issuers == nil && s.Profiles == nil
}

// HasRole reports whether the principal holds the role.
func (p Principal) HasRole(role string) bool { return slices.Contains(p.Roles, role) }

func holds(have, want []string) bool {
	if have == nil {
		return true
	}
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// ToHeader encodes the principal for Header.
func ToHeader(p Principal) string {
	b, err := json.Marshal(p)
	if err != nil {
		panic("authn: a principal always encodes: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// FromHeader decodes the value of Header. A missing or malformed value is Unauthenticated.
func FromHeader(v string) (Principal, error) {
	if v == "" {
		return Principal{}, fault.New(fault.Unauthenticated, "the request carries no principal")
	}
	b, err := base64.RawURLEncoding.DecodeString(v)
	if err != nil {
		return Principal{}, fault.Wrap(err, fault.Unauthenticated, "the request's principal is malformed")
	}
	var p Principal
	if err := json.Unmarshal(b, &p); err != nil {
		return Principal{}, fault.Wrap(err, fault.Unauthenticated, "the request's principal is malformed")
	}
	switch p.Kind {
	case KindUser, KindAgent, KindSystem, KindAnonymous:
	default:
		return Principal{}, fault.New(fault.Unauthenticated, "the request's principal is of no known kind")
	}
	if p.ID == "" {
		return Principal{}, fault.New(fault.Unauthenticated, "the request's principal has no id")
	}
	return p, nil
}

type contextKey struct{}

// NewContext returns a context that carries the principal.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns the context's principal. Without one it returns the zero Principal, which may do nothing.
func FromContext(ctx context.Context) Principal {
	p, _ := ctx.Value(contextKey{}).(Principal)
	return p
}
