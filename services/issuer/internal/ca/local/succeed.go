package local

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// Successor is what the next key of a CA is to be, and its certificate. What is zero stays as it is with the key before.
type Successor struct {
	CommonName string
	Days       int
	Algorithm  string
	// CrossSign has the key before sign a certificate for the new one too.
	CrossSign bool
	// Token is where its key is to be, under Label; nil for one that is sealed.
	Token Token
	Label string
}

// after describes the CA after one of a certificate: with the same limits, and what is to be different about it. Neither the
// key of the one before nor its time is needed, so that a CA that has ended can be followed too.
func (s *Successor) after(was *x509.Certificate) Description {
	d := Description{
		Subject: was.Subject, Days: s.Days, Algorithm: s.Algorithm, MaxPathLen: Unbounded, Constraints: constraintsOf(was),
		Token: s.Token, Label: s.Label,
	}
	if was.MaxPathLen > 0 || was.MaxPathLenZero {
		d.MaxPathLen = was.MaxPathLen
	}
	if s.CommonName != "" {
		d.Subject.CommonName = s.CommonName
	}
	if d.Algorithm == "" {
		d.Algorithm = nearest(was.PublicKey)
	}
	return d
}

// nearest is the kind of key that is made here and is most like one that may have been handed over.
func nearest(pub crypto.PublicKey) string {
	switch algorithm := AlgorithmOf(pub); {
	case slices.Contains(Algorithms, algorithm):
		return algorithm
	case strings.HasPrefix(algorithm, x509x.RSA):
		return RSA4096
	default:
		return ECDSAP384
	}
}

// Follow makes the key of a root that follows one of a certificate, as a further key of its issuer, and its certificate.
func Follow(issuerID string, was *x509.Certificate, s Successor, sealer *secret.Sealer, now time.Time) (ca.Key, error) {
	next, err := MakeRoot(issuerID, s.after(was), sealer, now)
	next.Place = next.ID
	return next, err
}

// Succeed makes the key of a root that follows this one, as a further key of its issuer, and its certificate. Leaves of
// the new key are served with the certificate that this key signs for it, if that is asked for, until this root ends: so
// they are verified by whoever trusts only this root, as by whoever trusts only the new one.
func (a *Authority) Succeed(issuerID string, s Successor, sealer *secret.Sealer) (ca.Key, error) {
	now := a.clock.Now()
	// Verifiers do not agree on whether a root's own name counts, so room for one is wanted in any case.
	if s.CrossSign && a.room() == 0 {
		return ca.Key{}, fault.InvalidFields(fault.Field{
			Name: "cross_sign", Reason: fmt.Sprintf("the root %s allows no CA below it (path length), and the cross certificate would be one", a.chain[0].Subject),
		})
	}
	next, err := Follow(issuerID, a.chain[0], s, sealer, now)
	if err != nil || !s.CrossSign {
		return next, err
	}
	root, err := x509x.ParseCertificates([]byte(next.ChainPEM))
	if err != nil {
		return ca.Key{}, fmt.Errorf("read the new root of %s: %w", issuerID, err)
	}
	d := s.after(a.chain[0])
	cross, err := a.crossSign(&d, root[0], now)
	if err != nil {
		return ca.Key{}, err
	}
	// What vouches for this root vouches for the one after it.
	next.CrossPEM = string(x509x.EncodePEM(cross)) + string(x509x.EncodeCertificates(a.cross...))
	return next, nil
}

// crossSign makes a certificate for the key of another root that says what that root's own says.
func (a *Authority) crossSign(d *Description, root *x509.Certificate, now time.Time) ([]byte, error) {
	template, err := d.template(root.PublicKey, now)
	if err != nil {
		return nil, err
	}
	template.SubjectKeyId, template.NotAfter = root.SubjectKeyId, root.NotAfter
	return a.certify(template, root.PublicKey, now)
}

// Complete joins a key that has no certificate yet with what somebody signed for it. Its error is Invalid and says what is
// wrong with the certificate.
func Complete(pending ca.Key, certPEM string, now time.Time) (ca.Key, error) {
	no := func(reason string) error { return fault.InvalidFields(fault.Field{Name: settingCert, Reason: reason}) }
	chain, err := x509x.ParseCertificates([]byte(certPEM))
	if err != nil {
		return ca.Key{}, no(because(err))
	}
	csr, err := x509x.ParseCSR([]byte(pending.CSRPEM))
	if err != nil {
		return ca.Key{}, fmt.Errorf("read the certificate request of %s: %w", pending.ID, err)
	}
	if err := check(chain, csr.PublicKey, now); err != nil {
		return ca.Key{}, no(because(err))
	}
	if len(chain[0].SubjectKeyId) == 0 {
		return ca.Key{}, no("the CA's certificate names no subject key identifier, by which what it issues is told apart (RFC 5280 section 4.2.1.2)")
	}
	pending.ChainPEM = string(x509x.EncodeCertificates(chain...))
	return pending, nil
}
