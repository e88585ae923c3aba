package acme

import (
	"context"
	"encoding/base64"

	protocol "github.com/go-acme/lego/v4/acme"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// Revoke implements [ca.Revoker], in the name of the account that the certificate was issued to.
func (a *Authority) Revoke(ctx context.Context, r ca.Revocation) error {
	if len(r.Leaf) == 0 {
		return fault.New(fault.Invalid, "an ACME CA revokes by the certificate, which is not at hand")
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	why := protocol.CRLReasonUnspecified
	if r.Reason > 0 {
		why = uint(r.Reason)
	}
	return a.as(ctx, func(s *session) error {
		err := s.revoke(r.Leaf, why)
		if is(err, badReason) {
			// Public CAs take few reasons; that it is revoked matters more than why.
			err = s.revoke(r.Leaf, protocol.CRLReasonUnspecified)
		}
		if is(err, alreadyRevoked) {
			return nil
		}
		return err
	})
}

func (s *session) revoke(leaf []byte, why uint) error {
	return s.core.Certificates.Revoke(protocol.RevokeCertMessage{Certificate: base64.RawURLEncoding.EncodeToString(leaf), Reason: &why})
}
