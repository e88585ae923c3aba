package issuance

import (
	"context"

	"github.com/certctl/certctl/services/issuer/internal/profile"
)

// mayKeep reports whether the key of the version before may be certified again.
func mayKeep(w *Work, p *profile.Profile) bool {
	return p != nil && p.ReuseKey && w.CurrentVersionID != ""
}

// kept is the hash of the key that the agent of a renewal is to keep, empty if it is to make a new one: because the profile
// does not say otherwise, or no longer allows the key, or somebody else has it.
func (s *Service) kept(ctx context.Context, w *Work, p *profile.Profile) (spki string, err error) {
	if !mayKeep(w, p) {
		return "", nil
	}
	v, holder, err := s.store.Version(ctx, w.CertificateID, w.CurrentVersionID)
	if err != nil {
		return "", err
	}
	if holder != w.Targets[0].AgentID || !p.Reuses(v.KeyAlgorithm, v.KeySize) {
		return "", nil
	}
	return v.SPKI, nil
}
