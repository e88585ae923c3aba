package registry

import (
	"context"
	"strings"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// Preflight looks what would keep an issuer from issuing for names. It is a Conflict if the issuer's CA wants no proofs,
// and Invalid if something is no name.
func (s *Service) Preflight(ctx context.Context, p authn.Principal, issuerID string, names []string) ([]ca.Finding, error) {
	wanted, err := x509x.ParseNames("", names)
	if err != nil {
		return nil, ofNames(err)
	}
	i, err := s.store.IssuerByID(ctx, p.Scope, issuerID)
	if err != nil {
		return nil, err
	}
	authority, err := s.registry.opened(ctx, i)
	if err != nil {
		return nil, err
	}
	looks, ok := authority.(ca.Preflighter)
	if !ok {
		return nil, fault.New(fault.Conflict, "issuer %s is of type %s, whose CA wants no proofs of names: there is nothing to look at", issuerID, i.Type)
	}
	return looks.Preflight(ctx, wanted)
}

// ofNames is an error about alternative names in the terms of this request.
func ofNames(err error) error {
	fields := fault.From(err).Fields
	for i := range fields {
		fields[i].Name = strings.Replace(fields[i].Name, "sans[", "names[", 1)
	}
	return fault.InvalidFields(fields...)
}
