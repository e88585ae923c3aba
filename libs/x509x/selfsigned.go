package x509x

import (
	"bytes"
	"crypto/x509"
)

// ServesItself reports whether a certificate claims to be a CA's and was made for a server all the same: it names itself
// as its issuer, and bears host names or addresses. That is what openssl req -x509 makes unless it is told otherwise. Its
// signature is not looked at.
func ServesItself(cert *x509.Certificate) bool {
	return cert.IsCA && bytes.Equal(cert.RawSubject, cert.RawIssuer) && len(cert.DNSNames)+len(cert.IPAddresses) > 0
}
