package registry

import (
	"context"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// RotateAccountKey replaces the key by which an issuer's CA knows it. It is a Conflict if the CA knows it by none.
func (s *Service) RotateAccountKey(ctx context.Context, p authn.Principal, issuerID string) error {
	i, err := s.store.IssuerByID(ctx, p.Scope, issuerID)
	if err != nil {
		return err
	}
	if err := mayChange(p, issuerID); err != nil {
		return err
	}
	authority, err := s.registry.opened(ctx, i)
	if err != nil {
		return err
	}
	rotator, ok := authority.(ca.AccountKeyRotator)
	if !ok {
		return fault.New(fault.Conflict, "issuer %s is of type %s and has no account at its CA", i.ID, i.Type)
	}
	return rotator.RotateAccountKey(ctx)
}
