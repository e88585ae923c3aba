package catest

import (
	"crypto/x509"
	"testing"

	"github.com/certctl/certctl/libs/testkit/relyingparty"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// party is a relying party: it says what it has against chains.
type party func(t testing.TB, chains ...relyingparty.Chain) []string

// relies sees that a party relies on a leaf, with what is served with it, for a purpose. It trusts the top of the CA's chain.
func relies(t *testing.T, on party, issuer ca.Issuer, certs []*x509.Certificate, purpose x509.ExtKeyUsage) {
	t.Helper()
	above := issuer.Chain()
	for _, objection := range on(t, relyingparty.Chain{
		Name: certs[0].Subject.String(), Served: certs, Trusted: above[len(above)-1:], For: purpose,
	}) {
		t.Error(objection)
	}
}
