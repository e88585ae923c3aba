package registry

import (
	"bytes"
	"context"
	"crypto/x509"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// settingCAFile is in the settings of an issuer whose CA is read from files.
const settingCAFile = "ca_cert_path"

// CAKey is a key as it is shown.
type CAKey struct {
	ca.Key
	// Valid is how many certificates that it issued have not ended, with those of the CAs below it that are in use: they
	// sign, or something valid hangs on them.
	Valid int64
}

// Keys returns the keys of an issuer, oldest first.
func (s *Service) Keys(ctx context.Context, p authn.Principal, issuerID string) ([]CAKey, error) {
	i, err := s.store.IssuerByID(ctx, p.Scope, issuerID)
	if err != nil {
		return nil, err
	}
	keys, err := s.counted(ctx, issuerID)
	if i.Config[settingCAFile] != nil {
		// The key of the file signs, whichever did before there was one.
		for k := range keys {
			keys[k].Active = false
		}
	}
	return keys, err
}

func (s *Service) counted(ctx context.Context, issuerID string) ([]CAKey, error) {
	keys, err := s.store.Keys(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	valid, err := s.store.ValidByKey(ctx, issuerID, s.clock.Now())
	if err != nil {
		return nil, err
	}
	out := make([]CAKey, len(keys))
	for i, k := range keys {
		out[i] = CAKey{Key: k, Valid: valid[k.ID]}
		if k.Place == issuerID {
			out[i].Valid = valid[""]
		}
	}
	below, err := s.store.IssuersBelow(ctx, issuerID)
	if err != nil {
		return nil, err
	}
	// An issuer is made after the one above it, so that this ends.
	for _, id := range below {
		theirs, err := s.counted(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, k := range theirs {
			if k.Active || k.Valid > 0 {
				s.countBelow(out, k.Key)
			}
		}
	}
	return out, nil
}

// countBelow counts the certificate of a CA, if it has not ended, with the key that issued it.
func (s *Service) countBelow(above []CAKey, below ca.Key) {
	chain := chainOf(below)
	if len(chain) < 2 || !chain[0].NotAfter.After(s.clock.Now()) {
		return
	}
	for i := range above {
		if own := chainOf(above[i].Key); len(own) > 0 && bytes.Equal(own[0].RawSubjectPublicKeyInfo, chain[1].RawSubjectPublicKeyInfo) {
			above[i].Valid++
		}
	}
}

// chainOf is empty of a key that waits for its certificate.
func chainOf(k ca.Key) []*x509.Certificate {
	chain, err := x509x.ParseCertificates([]byte(k.ChainPEM))
	if err != nil {
		return nil
	}
	return chain
}
