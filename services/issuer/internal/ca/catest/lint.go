package catest

import (
	"crypto/x509"
	"testing"

	"github.com/certctl/certctl/services/issuer/internal/lint"
)

// lints holds a certificate against the RFCs. What a CA's bounds name is let pass.
func lints(t *testing.T, c *x509.Certificate, b Bounds) {
	t.Helper()
	for _, f := range broken(c.Raw) {
		if _, excepted := b.Lints[f.Lint]; !excepted {
			t.Errorf("lint %s", f)
		}
	}
}

// broken are the rules of the RFCs that a certificate breaks.
func broken(der []byte) (out []lint.Finding) {
	for _, f := range lint.Check(der, lint.RFC) {
		if f.Level.Breaks() {
			out = append(out, f)
		}
	}
	return out
}
