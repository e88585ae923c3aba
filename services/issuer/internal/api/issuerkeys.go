package api

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// ListIssuerKeys implements the operation of that name.
func (s *server) ListIssuerKeys(ctx context.Context, r issuerapi.ListIssuerKeysRequestObject) (issuerapi.ListIssuerKeysResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	keys, err := s.issuers.Keys(ctx, p, r.ID)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListIssuerKeys200JSONResponse{Data: make([]issuerapi.IssuerKey, len(keys)), Total: int64(len(keys))}
	for i := range keys {
		if out.Data[i], err = issuerKey(&keys[i].Key); err != nil {
			return nil, err
		}
		if !keys[i].Pending() {
			out.Data[i].ValidCertificates = &keys[i].Valid
		}
	}
	return out, nil
}

// RollOverIssuer implements the operation of that name.
func (s *server) RollOverIssuer(ctx context.Context, r issuerapi.RollOverIssuerRequestObject) (issuerapi.RollOverIssuerResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	var next registry.Succession
	if b := r.Body; b != nil {
		next = registry.Succession{
			CommonName: value(b.CommonName), KeyAlgorithm: value(b.KeyAlgorithm), CrossSign: b.CrossSign != nil && *b.CrossSign,
		}
		if b.CaValidityDays != nil {
			next.Days = *b.CaValidityDays
		}
	}
	k, err := s.issuers.RollOver(ctx, p, origin, r.ID, next)
	if err != nil {
		return nil, err
	}
	key, err := issuerKey(&k)
	return issuerapi.RollOverIssuer200JSONResponse(key), err
}

// ActivateIssuerKey implements the operation of that name.
func (s *server) ActivateIssuerKey(ctx context.Context, r issuerapi.ActivateIssuerKeyRequestObject) (issuerapi.ActivateIssuerKeyResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	if err := known("CA key", r.KeyID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	k, err := s.issuers.Activate(ctx, p, origin, r.ID, r.KeyID)
	if err != nil {
		return nil, err
	}
	key, err := issuerKey(&k)
	return issuerapi.ActivateIssuerKey200JSONResponse(key), err
}

// GetIssuerCARequest implements the operation of that name.
func (s *server) GetIssuerCARequest(ctx context.Context, r issuerapi.GetIssuerCARequestRequestObject) (issuerapi.GetIssuerCARequestResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	k, err := s.issuers.Pending(ctx, p, r.ID)
	if err != nil {
		return nil, err
	}
	return issuerapi.GetIssuerCARequest200JSONResponse(caRequest(&k)), nil
}

// CreateIssuerCARequest implements the operation of that name.
func (s *server) CreateIssuerCARequest(ctx context.Context, r issuerapi.CreateIssuerCARequestRequestObject) (issuerapi.CreateIssuerCARequestResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	var next registry.Succession
	if b := r.Body; b != nil {
		next = registry.Succession{CommonName: value(b.CommonName), KeyAlgorithm: value(b.KeyAlgorithm)}
	}
	k, err := s.issuers.Ask(ctx, p, origin, r.ID, next)
	if err != nil {
		return nil, err
	}
	return issuerapi.CreateIssuerCARequest200JSONResponse(caRequest(&k)), nil
}

// CompleteIssuerCARequest implements the operation of that name.
func (s *server) CompleteIssuerCARequest(
	ctx context.Context, r issuerapi.CompleteIssuerCARequestRequestObject,
) (issuerapi.CompleteIssuerCARequestResponseObject, error) {
	if err := known("issuer", r.ID); err != nil {
		return nil, err
	}
	p, origin := asking(ctx)
	k, err := s.issuers.Complete(ctx, p, origin, r.ID, r.Body.CaCertPem)
	if err != nil {
		return nil, err
	}
	key, err := issuerKey(&k)
	return issuerapi.CompleteIssuerCARequest200JSONResponse(key), err
}

func caRequest(k *ca.Key) issuerapi.IssuerCARequest {
	return issuerapi.IssuerCARequest{KeyID: k.ID, CsrPem: k.CSRPEM, CreatedAt: k.CreatedAt.UTC()}
}

func issuerKey(k *ca.Key) (issuerapi.IssuerKey, error) {
	out := issuerapi.IssuerKey{
		ID: k.ID, IssuerID: k.IssuerID, Active: k.Active, Status: issuerapi.IssuerKeyStatusInactive,
		CreatedAt: k.CreatedAt.UTC(), ActivatedAt: moment(k.ActivatedAt), CaChainPem: text(k.ChainPEM),
	}
	switch {
	case k.Pending():
		out.Status = issuerapi.IssuerKeyStatusPending
		csr, err := x509x.ParseCSR([]byte(k.CSRPEM))
		if err != nil {
			return out, fmt.Errorf("read the request of CA key %s: %w", k.ID, err)
		}
		out.KeyAlgorithm = local.AlgorithmOf(csr.PublicKey)
		return out, nil
	case k.Active:
		out.Status = issuerapi.IssuerKeyStatusActive
	}
	chain, err := x509x.ParseCertificates([]byte(k.ChainPEM))
	if err != nil {
		return out, fmt.Errorf("read the certificate of CA key %s: %w", k.ID, err)
	}
	c := chain[0]
	out.KeyAlgorithm, out.Subject, out.SerialNumber = local.AlgorithmOf(c.PublicKey), new(c.Subject.String()), new(x509x.SerialHex(c.SerialNumber))
	out.SubjectKeyID, out.FingerprintSha256 = text(hex.EncodeToString(c.SubjectKeyId)), new(x509x.Fingerprint(c.Raw))
	out.NotBefore, out.NotAfter = moment(c.NotBefore), moment(c.NotAfter)
	if k.CrossPEM == "" {
		return out, nil
	}
	cross, err := x509x.ParseCertificates([]byte(k.CrossPEM))
	if err != nil {
		return out, fmt.Errorf("read the cross certificate of CA key %s: %w", k.ID, err)
	}
	out.CrossCertificatePem, out.CrossNotAfter = &k.CrossPEM, moment(cross[0].NotAfter)
	return out, nil
}
