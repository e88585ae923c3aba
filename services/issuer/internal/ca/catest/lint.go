package catest

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"testing"

	zcrypto "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

// lints holds a certificate against the RFCs. What a CA's bounds name is let pass.
func lints(t *testing.T, c *x509.Certificate, b Bounds) {
	t.Helper()
	found, err := findings(c.Raw)
	if err != nil {
		t.Error(err)
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if _, excepted := b.Lints[name]; !excepted {
			t.Errorf("lint %s", found[name])
		}
	}
}

// findings are the lints of the RFCs that a certificate does not pass, by their names: those of zlint that are an error or
// worse.
func findings(der []byte) (map[string]string, error) {
	c, err := zcrypto.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("zlint does not read it: %w", err)
	}
	rules, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{
		lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6960, lint.RFC6962, lint.RFC8813,
	}})
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for name, result := range zlint.LintCertificateEx(c, rules).Results {
		if result.Status >= lint.Error {
			found[name] = fmt.Sprintf("%s (%s): %s", name, result.Status, result.Details)
		}
	}
	return found, nil
}
