// Package x509x reads and writes the certificates, requests, keys and serial numbers of others.
//
// It stands between foreign bytes and crypto/x509. What it parses it also judges: a request must be signed by its own
// key, and keys must be strong enough. What is wrong with an input is said in a fault.Invalid whose message is fit for
// whoever sent it. Names and serial numbers come out in one canonical form each, to be stored and compared as they are.
//
// It makes no certificates and has no opinion on who may have one; that belongs to the issuer's rules.
package x509x

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"

	"github.com/certctl/certctl/libs/fault"
)

const (
	blockCertificate = "CERTIFICATE"
	blockRequest     = "CERTIFICATE REQUEST"
	blockOldRequest  = "NEW CERTIFICATE REQUEST"
	blockPKCS8       = "PRIVATE KEY"
	blockRSA         = "RSA PRIVATE KEY"
	blockEC          = "EC PRIVATE KEY"
	blockEncrypted   = "ENCRYPTED PRIVATE KEY"

	maxRequest = 64 << 10
	maxChain   = 1 << 20
)

func isPrivate(blockType string) bool { return strings.HasSuffix(blockType, "PRIVATE KEY") }

// ParseCSR parses a certificate request in PEM and refuses one that is malformed, not signed by its own key, signed by
// way of MD5 or SHA-1, or whose key CheckKey refuses. Its errors are Invalid.
func ParseCSR(text []byte) (*x509.CertificateRequest, error) {
	if len(text) > maxRequest {
		return nil, fault.New(fault.Invalid, "the certificate request is larger than %d bytes", maxRequest)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fault.New(fault.Invalid, "the certificate request is not in PEM")
	case isPrivate(block.Type):
		return nil, fault.New(fault.Invalid, "this is a private key, not a certificate request; consider it exposed")
	case block.Type != blockRequest && block.Type != blockOldRequest:
		return nil, fault.New(fault.Invalid, "expected a certificate request, got a PEM block of the form %q", block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fault.New(fault.Invalid, "the certificate request is followed by something else")
	}
	return ParseCSRDER(block.Bytes)
}

// ParseCSRDER is ParseCSR for a request in DER.
func ParseCSRDER(der []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil && strings.Contains(err.Error(), "unsupported elliptic curve") {
		return nil, fault.Wrap(err, fault.Invalid, "the key's curve is not accepted; P-256, P-384 and P-521 are")
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the certificate request is malformed")
	}
	if csr.PublicKey == nil {
		return nil, CheckKey(nil)
	}
	// A key is judged before it is used, since verifying with a huge one is how to keep us busy.
	if err := CheckKey(csr.PublicKey); err != nil {
		return nil, err
	}
	switch csr.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1:
		return nil, fault.New(fault.Invalid, "the certificate request is signed with %s; use SHA-256 or better", csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the certificate request is not signed by its own key")
	}
	return csr, nil
}

// ParseCertificates parses the certificates of a PEM text, in their order. Text around the blocks is passed over; a
// block of another kind is refused, and so is a text without certificates. Its errors are Invalid.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, fault.New(fault.Invalid, "the certificates are larger than %d bytes", maxChain)
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if isPrivate(block.Type) {
			return nil, fault.New(fault.Invalid, "the text holds a private key besides certificates; consider it exposed")
		}
		if block.Type != blockCertificate {
			return nil, fault.New(fault.Invalid, "expected certificates, got a PEM block of the form %q", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "certificate %d is malformed", len(certs)+1)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fault.New(fault.Invalid, "the text holds no certificate in PEM")
	}
	return certs, nil
}

// SplitChain cuts a PEM text after its first certificate: the leaf, and what vouches for it, which may be empty. Both
// are encoded anew, so that nothing but certificates is left.
func SplitChain(text []byte) (leaf, chain []byte, err error) {
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, nil, err
	}
	return EncodeCertificates(certs[0]), EncodeCertificates(certs[1:]...), nil
}

// EncodeCertificates returns the certificates in PEM, one after the other.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(EncodePEM(c.Raw))
	}
	return b.Bytes()
}

// EncodePEM returns a certificate, given in DER, in PEM.
func EncodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der})
}

// EncodeCSR returns a certificate request, given in DER, in PEM.
func EncodeCSR(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockRequest, Bytes: der})
}

// Fingerprint returns the SHA-256 of a certificate in DER, in lower-case hex.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
