package acme

import (
	"context"

	"github.com/certctl/certctl/libs/x509x"
)

// The ways to prove a name, as the protocol calls them.
const (
	HTTP01 = "http-01"
	DNS01  = "dns-01"
)

// Proof is what shows that a name is ours.
type Proof struct {
	// Domain is without the wildcard's first label.
	Domain string
	Token  string
	// Answer is the key authorization of RFC 8555 section 8.1.
	Answer string
	// AgentID is the agent of the host where the certificate is to be used first, empty if there is none.
	AgentID string
}

// Solver shows proofs to a CA. It is safe for concurrent use.
type Solver interface {
	// Type is the protocol's name for this way.
	Type() string
	// Objection says why a name can never be proven this way, and is empty if it can.
	Objection(name x509x.Name) string
	// Present shows proofs and returns when the CA can see them. Afterwards withdraw takes them back, whatever has become of ctx.
	// If there is an error, Present has taken them back itself.
	Present(ctx context.Context, proofs []Proof) (withdraw func(), err error)
}
