// Package csr asks another CA to certify a key of the token.
package csr

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
)

// What a CA's certificate holds (RFC 5280 sections 4.2.1.9 and 4.2.1.3).
var (
	basicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	keyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
)

// Make returns a certificate signing request in PEM for a CA of a name, signed by its key. It asks for a CA's
// certificate that may sign certificates and revocation lists; what comes of it is for the CA above to say.
func Make(key crypto.Signer, commonName, organization string) ([]byte, error) {
	subject := pkix.Name{CommonName: commonName}
	if organization != "" {
		subject.Organization = []string{organization}
	}
	isCA, err := asn1.Marshal(struct{ IsCA bool }{true})
	if err != nil {
		return nil, fmt.Errorf("encode the basic constraints: %w", err)
	}
	// keyCertSign and cRLSign, bits 5 and 6.
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x06}, BitLength: 7})
	if err != nil {
		return nil, fmt.Errorf("encode the key usage: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: subject,
		ExtraExtensions: []pkix.Extension{
			{Id: basicConstraints, Critical: true, Value: isCA}, {Id: keyUsage, Critical: true, Value: usage},
		},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("sign the request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
