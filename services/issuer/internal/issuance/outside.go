package issuance

import (
	"context"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// outside tells a CA elsewhere what one in this process has no use for: the certificate whose place the new one takes, if
// it is of the same issuer, and the agent on the host where it is used first.
func (s *Service) outside(ctx context.Context, what *signing, r *ca.Request) {
	if _, here := what.ca.(ca.InProcess); here {
		return
	}
	r.AgentID = what.agentID
	if what.previousID == "" {
		return
	}
	before, _, err := s.store.Version(ctx, what.certificateID, what.previousID)
	if err != nil || before.IssuerID != what.issuerID {
		// To say so is a courtesy, and no certificate fails for want of it.
		return
	}
	if certs, err := x509x.ParseCertificates([]byte(before.PEMChain)); err == nil {
		r.Replaces = certs[0].Raw
	}
}
