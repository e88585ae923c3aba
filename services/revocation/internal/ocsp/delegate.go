package ocsp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/revocation/internal/fresh"
)

// delegate makes a key and has the issuer certify it. The certificate is renewed when half
// of its life is over.
func (r *Responder) delegate(ctx context.Context, of ca) (fresh.Value[identity], error) {
	var none fresh.Value[identity]
	if of.CAChainPEM == "" {
		return none, fault.New(fault.NotFound, "the CA of issuer %s is not known", of.IssuerID)
	}
	chain, err := x509x.ParseCertificates([]byte(of.CAChainPEM))
	if err != nil {
		return none, fault.Wrap(err, fault.Internal, "the CA certificates of %s cannot be read", of.IssuerID)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, fmt.Errorf("make the responder's key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "certctl OCSP responder"},
	}, key)
	if err != nil {
		return none, fmt.Errorf("make the responder's request: %w", err)
	}
	given, err := r.delegator.IssueOCSPResponder(ctx, command.IssueOCSPResponder{
		IssuerID: of.IssuerID, KeyID: of.KeyID,
		CSRPEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
	})
	if fault.CodeOf(err) == fault.Precondition {
		return none, fault.Wrap(err, fault.NotFound, "issuer %s leaves OCSP to its CA", of.IssuerID)
	}
	if err != nil {
		return none, fmt.Errorf("have a responder of %s certified: %w", of.IssuerID, err)
	}
	id := identity{key: key, issuer: chain[0]}
	if id.certificate, err = responder(given, key, chain[0]); err != nil {
		return none, fault.Wrap(err, fault.Unavailable, "the issuer %s gave its responder no certificate that can be used", of.IssuerID)
	}
	from, to := id.certificate.NotBefore, id.certificate.NotAfter
	return fresh.Value[identity]{Of: id, RenewAt: from.Add(to.Sub(from) / 2), Until: to}, nil
}

// responder checks what the issuer gave: relying parties would refuse every answer under a
// certificate that is not the CA's, not for this key or not for OCSP.
func responder(chainPEM string, key *ecdsa.PrivateKey, issuing *x509.Certificate) (*x509.Certificate, error) {
	given, err := x509x.ParseCertificates([]byte(chainPEM))
	if err != nil {
		return nil, err
	}
	c := given[0]
	if !key.PublicKey.Equal(c.PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return nil, errors.New("the certificate is not for OCSP")
	}
	if err := c.CheckSignatureFrom(issuing); err != nil {
		return nil, fmt.Errorf("the certificate is not of the CA that is known: %w", err)
	}
	return c, nil
}
