package local

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// noCheck tells relying parties not to ask whether the responder is revoked: it lives for days (RFC 6960 section
// 4.2.2.2.1).
var noCheck = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: asn1.NullBytes}

// SignsCRLs implements [ca.CRLSigner].
func (a *Authority) SignsCRLs() bool {
	return a.chain[0].KeyUsage&x509.KeyUsageCRLSign != 0 && len(a.chain[0].SubjectKeyId) > 0
}

// SignCRL implements [ca.CRLSigner].
func (a *Authority) SignCRL(_ context.Context, l ca.RevocationList) ([]byte, error) {
	if !a.SignsCRLs() {
		return nil, fault.New(fault.Precondition, "the CA's certificate does not allow it to sign revocation lists")
	}
	entries := make([]x509.RevocationListEntry, len(l.Entries))
	for i, e := range l.Entries {
		entries[i] = x509.RevocationListEntry{SerialNumber: e.Serial, RevocationTime: e.At, ReasonCode: e.Reason}
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		SignatureAlgorithm:        signatureAlgorithm(a.key.Public()),
		Number:                    l.Number,
		ThisUpdate:                l.ThisUpdate,
		NextUpdate:                l.NextUpdate,
		RevokedCertificateEntries: entries,
	}, a.chain[0], a.key)
	if err != nil {
		return nil, signing(err, fault.Invalid, "the revocation list cannot be signed")
	}
	return der, nil
}

// IssueOCSPResponder implements [ca.OCSPResponderIssuer].
func (a *Authority) IssueOCSPResponder(_ context.Context, csr *x509.CertificateRequest) (ca.Issued, error) {
	template, err := a.template(csr, responderLifetime)
	if err != nil {
		return ca.Issued{}, err
	}
	template.Subject = pkix.Name{CommonName: "CertCtl OCSP Responder"}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	template.ExtraExtensions = []pkix.Extension{noCheck}
	return a.sign(template, csr.PublicKey)
}
