package profile

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/lint"
)

// LintMode is what follows from a certificate that breaks a rule of its ruleset.
type LintMode string

// The modes. There is none that does not look: what the RFCs say against a certificate is worth knowing of.
const (
	// LintWarn issues it, and puts what was found on record.
	LintWarn LintMode = "warn"
	// LintBlock refuses it.
	LintBlock LintMode = "block"
)

const maxIgnored = 100

// lintName is what names of rules look like. That there is such a rule is not asked: a profile has to stay good when its
// rule goes with another version of the rules, and a slip of the hand ignores nothing.
var lintName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,127}$`)

func checkLint(object func(field, reason string), s Spec) {
	if !s.LintRuleset.Valid() {
		object("lint_ruleset", strconv.Quote(string(s.LintRuleset))+" is none of rfc and cabf")
	}
	if s.LintMode != LintWarn && s.LintMode != LintBlock {
		object("lint_mode", strconv.Quote(string(s.LintMode))+" is none of warn and block")
	}
	if len(s.LintIgnore) > maxIgnored {
		object("lint_ignore", "has more than "+strconv.Itoa(maxIgnored)+" entries")
		return
	}
	for i, name := range s.LintIgnore {
		if !lintName.MatchString(name) {
			object("lint_ignore["+strconv.Itoa(i)+"]", strconv.Quote(name)+" is no name of a lint, such as w_ext_subject_key_identifier_missing_sub_cert")
		}
	}
}

// Lint returns what the profile's ruleset has to say against a certificate, or the draft of one, in DER. Without a profile
// that is the RFCs'. What could not be read is told even if it is ignored.
func (p *Profile) Lint(der []byte) []lint.Finding {
	if p == nil {
		return lint.Check(der, lint.RFC)
	}
	return slices.DeleteFunc(lint.Check(der, p.LintRuleset), func(f lint.Finding) bool {
		return f.Lint != lint.Unreadable && slices.Contains(p.LintIgnore, f.Lint)
	})
}

// Blocks reports whether the profile refuses certificates that break a rule.
func (p *Profile) Blocks() bool { return p != nil && p.LintMode == LintBlock }

// CheckFindings refuses a certificate about which there are grave findings, if the profile blocks those.
func (p *Profile) CheckFindings(findings []lint.Finding) error {
	if !p.Blocks() {
		return nil
	}
	var broken []fault.Field
	for _, f := range findings {
		if f.Level.Breaks() {
			broken = append(broken, fault.Field{
				Name:   "certificate_profile_id",
				Reason: fmt.Sprintf("profile %s (%s) blocks what its lint_ruleset %s forbids: %s", p.ID, p.Name, p.LintRuleset, f),
			})
		}
	}
	if len(broken) == 0 {
		return nil
	}
	return fault.InvalidFields(broken...)
}
