package catest

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// renews has a certificate take the place of another: for the same names and a new key, and one of its own.
func renews(t *testing.T, issuer ca.Issuer, b Bounds) {
	before, old := issue(t, issuer, NewRequest(t, NewKey(t, "ECDSA P-256"), b.Names...), b)
	r := NewRequest(t, NewKey(t, "ECDSA P-256"), b.Names...)
	r.Replaces = before.DER
	after, renewed := issue(t, issuer, r, b)
	if after.Serial.Cmp(before.Serial) == 0 || bytes.Equal(renewed[0].RawSubjectPublicKeyInfo, old[0].RawSubjectPublicKeyInfo) {
		t.Error("the renewed certificate is the old one")
	}
	if d := cmp.Diff(x509x.CertificateNames(old[0]), x509x.CertificateNames(renewed[0])); d != "" {
		t.Errorf("names (-before +after):\n%s", d)
	}
	if !b.OwnTemplate && renewed[0].NotAfter.Before(old[0].NotAfter) {
		t.Errorf("it ends at %s, the old one at %s", renewed[0].NotAfter, old[0].NotAfter)
	}
}

// advises asks when a certificate is to be renewed (RFC 9773): within its life.
func advises(t *testing.T, issuer ca.Issuer, adviser ca.RenewalAdviser, b Bounds) {
	issued, _ := issue(t, issuer, NewRequest(t, NewKey(t, "ECDSA P-256"), b.Names[0]), b)
	advice, err := adviser.RenewalAdvice(t.Context(), issued.DER)
	if err != nil {
		t.Fatal(err)
	}
	if !advice.Start.Before(advice.End) || advice.Start.Before(issued.NotBefore) || advice.End.After(issued.NotAfter) || advice.Again <= 0 {
		t.Errorf("advises %+v for a certificate from %s to %s", advice, issued.NotBefore, issued.NotAfter)
	}
}
