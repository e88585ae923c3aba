package lint

import (
	"slices"
	"strings"
	"sync"

	"github.com/zmap/zlint/v3/lint"
	// Rules register themselves.
	_ "github.com/zmap/zlint/v3/lints/cabf_br"
	_ "github.com/zmap/zlint/v3/lints/cabf_cs_br"
	_ "github.com/zmap/zlint/v3/lints/cabf_ev"
	_ "github.com/zmap/zlint/v3/lints/cabf_smime_br"
	_ "github.com/zmap/zlint/v3/lints/community"
	_ "github.com/zmap/zlint/v3/lints/rfc"
)

// Ruleset is which rules a certificate is held against.
type Ruleset string

// The rulesets.
const (
	// RFC has the rules of the RFCs, which hold for every certificate.
	RFC Ruleset = "rfc"
	// CABF has, besides, those of the CA/Browser Forum for the certificates of servers (also those with extended validation),
	// of code and of e-mail, and those that zlint's community holds to be good practice. Which of them concern a certificate
	// follows from what it is for.
	CABF Ruleset = "cabf"
)

// Valid reports whether there is such a ruleset.
func (r Ruleset) Valid() bool { return r == RFC || r == CABF }

// rules returns the rules of a set, those of RFC for one that does not exist. They are gathered when they are first needed.
func rules(set Ruleset) []*lint.CertificateLint {
	if set == CABF {
		return ofCABF()
	}
	return ofRFC()
}

var (
	ofRFC  = sync.OnceValue(func() []*lint.CertificateLint { return gather(isRFC) })
	ofCABF = sync.OnceValue(func() []*lint.CertificateLint {
		return gather(func(s lint.LintSource) bool { return isRFC(s) || isCABF(s) || s == lint.Community })
	})
)

func isRFC(s lint.LintSource) bool  { return strings.HasPrefix(string(s), "RFC") }
func isCABF(s lint.LintSource) bool { return strings.HasPrefix(string(s), "CABF") }

func gather(suits func(lint.LintSource) bool) []*lint.CertificateLint {
	var out []*lint.CertificateLint
	for _, rule := range lint.GlobalRegistry().CertificateLints().Lints() {
		if suits(rule.Source) {
			out = append(out, rule)
		}
	}
	slices.SortFunc(out, func(a, b *lint.CertificateLint) int { return strings.Compare(a.Name, b.Name) })
	return out
}
