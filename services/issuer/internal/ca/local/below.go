package local

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// room is how many CAs there may be below this one, Unbounded if no path length says.
func (a *Authority) room() int {
	room := Unbounded
	for below, cert := range a.chain {
		if cert.MaxPathLen < 0 || cert.MaxPathLen == 0 && !cert.MaxPathLenZero {
			continue
		}
		if left := max(cert.MaxPathLen-below, 0); room == Unbounded || left < room {
			room = left
		}
	}
	return room
}

// mayHaveBelow refuses a CA that this one's path length, or the names that it may issue for, leave no place for. Its error
// is Invalid and names the settings.
func (a *Authority) mayHaveBelow(d *Description) error {
	var c checks
	switch room := a.room(); {
	case room == 0:
		c.object(settingParent, fmt.Sprintf("%s allows no CA below it (path length)", a.chain[0].Subject))
	case room != Unbounded && (d.MaxPathLen == Unbounded || d.MaxPathLen > room-1):
		c.object(settingPathLen, fmt.Sprintf("must be at most %d below %s", room-1, a.chain[0].Subject))
	}
	for _, domain := range d.Constraints.PermittedDNS {
		for _, cert := range a.chain {
			if reason := outside(cert, domain); reason != "" {
				c.object(settingPermitDNS, fmt.Sprintf("%s is of no use: the CA certificate %s %s", domain, cert.Subject, reason))
			}
		}
	}
	return c.err()
}

// outside tells why nothing in a domain can be issued below a CA.
func outside(cert *x509.Certificate, domain string) string {
	bare := x509x.Name{Kind: x509x.DNS, Value: trimDot(domain)}
	permitted := *cert
	// A wider domain than what is permitted is of use within that.
	permitted.PermittedDNSDomains = nil
	reason := forbids(&permitted, bare)
	if len(cert.PermittedDNSDomains) == 0 || reason != "" {
		return reason
	}
	for _, p := range cert.PermittedDNSDomains {
		if within(bare.Value, p) || within(trimDot(p), domain) {
			return ""
		}
	}
	return forbids(cert, bare)
}

func trimDot(domain string) string {
	if domain != "" && domain[0] == '.' {
		return domain[1:]
	}
	return domain
}

// Below makes a CA below this one: its key, sealed, and its certificate, which this CA signs and which does not outlive it.
// Its error is Invalid if this CA's certificate allows none.
func (a *Authority) Below(issuerID string, d Description, sealer *secret.Sealer) (ca.Key, error) {
	if err := a.mayHaveBelow(&d); err != nil {
		return ca.Key{}, err
	}
	now := a.clock.Now()
	key, template, err := d.make(issuerID, now)
	if err != nil {
		return ca.Key{}, err
	}
	issued, err := a.certify(template, key.Public(), now)
	if err != nil {
		return ca.Key{}, err
	}
	k := ca.Key{IssuerID: issuerID, Active: true, CrossPEM: string(x509x.EncodeCertificates(a.cross...))}
	k.ChainPEM = string(x509x.EncodePEM(issued)) + string(x509x.EncodeCertificates(a.chain...))
	return seal(k, key, sealer, now)
}

// certify signs the certificate of a CA within this one's time.
func (a *Authority) certify(template *x509.Certificate, pub crypto.PublicKey, now time.Time) ([]byte, error) {
	if template.NotAfter.After(a.ends) {
		template.NotAfter = a.ends
	}
	if template.NotBefore.Before(a.chain[0].NotBefore) {
		template.NotBefore = a.chain[0].NotBefore
	}
	if !template.NotAfter.After(now) {
		return nil, fault.New(fault.Unavailable, "the CA's own certificate, or one above it, expired on %s", a.ends.Format(time.RFC3339))
	}
	template.AuthorityKeyId = a.chain[0].SubjectKeyId
	// Which CAs are revoked is said by lists alone: OCSP knows what is in the inventory.
	template.CRLDistributionPoints, template.IssuingCertificateURL = a.crl, a.ca
	issued, err := a.sign(template, pub)
	return issued.DER, err
}
