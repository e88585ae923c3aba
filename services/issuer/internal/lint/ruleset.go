package lint

import (
	"slices"
	"strings"
	"sync"

	"github.com/zmap/zcrypto/x509"
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

// rule is one of zlint's.
type rule struct {
	*lint.CertificateLint
	// extension, if it is not empty, is the object identifier of the one that the rule is about: it has nothing to say
	// against a certificate without it, and need not be asked.
	extension string
}

// applies reports whether the rule may have something to say against a certificate.
func (r rule) applies(cert *x509.Certificate) bool {
	if r.extension == "" {
		return true
	}
	_, has := cert.ExtensionsMap[r.extension]
	return has
}

// extensions are those that few certificates have and many rules are about, by how the names of these begin after their
// level. To ask such a rule costs more than many another: zlint writes out the identifier each time. (Sections of RFC 5280)
var extensions = []struct{ rules, oid string }{
	{"ext_ian_", "2.5.29.18"},             // issuer alternative name, 4.2.1.7
	{"ext_name_constraints_", nameLimits}, // 4.2.1.10
	{"name_constraint_", nameLimits},
	{"ext_cert_policy_", "2.5.29.32"},                // certificate policies, 4.2.1.4
	{"ext_policy_map_", "2.5.29.33"},                 // policy mappings, 4.2.1.5
	{"ext_policy_constraints_", "2.5.29.36"},         // 4.2.1.11
	{"ext_subject_directory_attr_", "2.5.29.9"},      // 4.2.1.8
	{"ext_freshest_crl_", "2.5.29.46"},               // 4.2.1.15
	{"inhibit_any_policy_", "2.5.29.54"},             // 4.2.1.14
	{"subject_info_access_", "1.3.6.1.5.5.7.1.11"},   // 4.2.2.2
	{"precert_with_sct_", "1.3.6.1.4.1.11129.2.4.3"}, // poison of a precertificate, RFC 6962 section 3.1
}

const nameLimits = "2.5.29.30"

// about returns the extension that a rule is about, empty if it may be about others too.
func about(name string) string {
	_, name, _ = strings.Cut(name, "_")
	for _, e := range extensions {
		if strings.HasPrefix(name, e.rules) {
			return e.oid
		}
	}
	return ""
}

// rules returns the rules of a set, those of RFC for one that does not exist. They are gathered when they are first needed.
func rules(set Ruleset) []rule {
	if set == CABF {
		return ofCABF()
	}
	return ofRFC()
}

var (
	// config sets nothing. To make it runs a parser.
	config = sync.OnceValue(lint.NewEmptyConfig)

	ofRFC  = sync.OnceValue(func() []rule { return gather(isRFC) })
	ofCABF = sync.OnceValue(func() []rule {
		return gather(func(s lint.LintSource) bool { return isRFC(s) || isCABF(s) || s == lint.Community })
	})
)

func isRFC(s lint.LintSource) bool  { return strings.HasPrefix(string(s), "RFC") }
func isCABF(s lint.LintSource) bool { return strings.HasPrefix(string(s), "CABF") }

func gather(suits func(lint.LintSource) bool) []rule {
	var out []rule
	for _, r := range lint.GlobalRegistry().CertificateLints().Lints() {
		if suits(r.Source) {
			out = append(out, rule{r, about(r.Name)})
		}
	}
	slices.SortFunc(out, func(a, b rule) int { return strings.Compare(a.Name, b.Name) })
	return out
}
