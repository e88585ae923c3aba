package ca

import (
	"crypto/x509"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
)

// Accept holds what a CA elsewhere answered against what it was asked for, before anything believes it: the first
// certificate is for the request's key and for exactly its names, it is valid now, and the chain leads to one of the
// roots. Roots may be nil if the CA's are not known; then only each step of the chain is checked.
//
// Its error is Unavailable: the CA misbehaves, and the same request may be answered well by it later or by another.
func Accept(r Request, chainPEM []byte, roots []*x509.Certificate, now time.Time) (Issued, error) {
	certs, err := x509x.ParseCertificates(chainPEM)
	if err != nil {
		return Issued{}, fault.Wrap(err, fault.Unavailable, "the CA's answer is no chain of certificates")
	}
	leaf := certs[0]
	switch {
	case !x509x.SameKey(leaf.PublicKey, r.CSR.PublicKey):
		return Issued{}, fault.New(fault.Unavailable, "the CA answered with a certificate for another key")
	case !x509x.CertificateNames(leaf).Equal(r.Names):
		return Issued{}, fault.New(fault.Unavailable, "the CA answered with a certificate for %v where %v was asked for",
			x509x.CertificateNames(leaf).Values(), r.Names.Values())
	case leaf.IsCA:
		return Issued{}, fault.New(fault.Unavailable, "the CA answered with the certificate of a CA")
	case now.Before(leaf.NotBefore) || !now.Before(leaf.NotAfter):
		return Issued{}, fault.New(fault.Unavailable, "the CA answered with a certificate that is valid from %s to %s, and not now",
			leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	if err := leads(certs, roots, now); err != nil {
		return Issued{}, err
	}
	var chain []byte
	for _, c := range certs {
		if !selfIssued(c) {
			chain = append(chain, x509x.EncodePEM(c.Raw)...)
		}
	}
	return Issued{
		DER: leaf.Raw, Serial: leaf.SerialNumber, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		AuthorityKeyID: leaf.AuthorityKeyId, ChainPEM: chain,
	}, nil
}

// leads checks that a chain ends at one of the roots.
func leads(certs, roots []*x509.Certificate, now time.Time) error {
	for i := range certs[1:] {
		if err := certs[i].CheckSignatureFrom(certs[i+1]); err != nil {
			return fault.Wrap(err, fault.Unavailable, "the CA's chain is broken: %s is not signed by %s", certs[i].Subject, certs[i+1].Subject)
		}
	}
	if roots == nil {
		return nil
	}
	anchors, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range roots {
		anchors.AddCert(c)
	}
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{Roots: anchors, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "the CA's chain does not lead to its root")
	}
	return nil
}

// selfIssued tells a root, which servers do not send.
func selfIssued(c *x509.Certificate) bool {
	return string(c.RawIssuer) == string(c.RawSubject) && c.CheckSignatureFrom(c) == nil
}
