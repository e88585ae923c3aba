// Package lint holds certificates against the rules that are written down for them: those of the RFCs, and those that the
// CA/Browser Forum lays down for CAs that the public trusts. The rules are zlint's; a Finding is one that a certificate
// breaks, or comes near to breaking.
//
// Check is a function of a certificate and a ruleset, and never fails: what cannot even be read has a finding that says so.
// It looks at one certificate alone, never at its chain, asks nobody, and trusts nothing in it: what findings quote of it is
// bounded and printable. It takes less than a tenth of a millisecond. It is safe for concurrent use.
package lint

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
)

// Level says how grave a finding is.
type Level string

// The levels. Notice and Warn are advice; Error breaks a rule; Fatal is a certificate that could not be looked at.
const (
	Notice Level = "notice"
	Warn   Level = "warn"
	Error  Level = "error"
	Fatal  Level = "fatal"
)

// Breaks reports whether the rule is broken, or could not be looked at.
func (l Level) Breaks() bool { return l == Error || l == Fatal }

// Finding is what a rule has to say against a certificate. Its JSON is what is stored and told.
type Finding struct {
	// Lint is the rule's name, such as e_underscore_not_permissible_in_dnsname.
	Lint  string `json:"lint"`
	Level Level  `json:"level"`
	// Text is what the rule asks for, Detail what was found instead; Detail may be empty.
	Text   string `json:"text"`
	Detail string `json:"detail,omitempty"`
	// Source is whose rule it is, such as RFC5280 or CABF_BR, and Citation where it is written.
	Source   string `json:"source"`
	Citation string `json:"citation,omitempty"`
}

// String names the finding with all that helps to mend it.
func (f Finding) String() string {
	s := string(f.Level) + " " + f.Lint + ": " + f.Text
	if f.Detail != "" {
		s += " (" + f.Detail + ")"
	}
	if f.Citation != "" {
		s += " [" + f.Citation + "]"
	}
	return s
}

const (
	// Unreadable is the name of the finding that a certificate could not be read.
	Unreadable = "certctl_unreadable"
	// maxFindings and maxText bound what a certificate from elsewhere can have us store, the latter in bytes.
	maxFindings = 50
	maxText     = 300
)

// Check returns what the rules of a set have to say against a certificate in DER, in the order of the rules' names.
func Check(der []byte, set Ruleset) []Finding {
	cert, err := parse(der)
	if err != nil {
		return []Finding{{
			Lint: Unreadable, Level: Fatal, Text: "A certificate must be one that can be read (RFC 5280)", Detail: clean(err.Error()), Source: "certctl",
		}}
	}
	var out []Finding
	for _, rule := range rules(set) {
		if !rule.applies(cert) {
			continue
		}
		result := rule.Execute(cert, config())
		level, found := levels[result.Status]
		if !found {
			continue
		}
		out = append(out, Finding{
			Lint: rule.Name, Level: level, Text: clean(rule.Description), Detail: clean(result.Details),
			Source: string(rule.Source), Citation: clean(rule.Citation),
		})
		if len(out) == maxFindings {
			break
		}
	}
	return out
}

// parse reads a certificate with the parser that the rules are written for. It is not crypto/x509's, and meets what CAs
// elsewhere have made of it, so that a panic of it must end here.
func parse(der []byte) (cert *x509.Certificate, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the parser gave up: %v", r)
		}
	}()
	return x509.ParseCertificate(der)
}

// levels are those of the results that are findings.
var levels = map[lint.LintStatus]Level{lint.Notice: Notice, lint.Warn: Warn, lint.Error: Error, lint.Fatal: Fatal}

// clean makes text that may quote a certificate fit to be stored and shown.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if s = strings.TrimSpace(s); len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}
