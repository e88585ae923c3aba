// Package policy holds rules that an organisation lays down for its certificates, and holds them against one.
//
// A rule has a type and the configuration of that type, which is checked when the rule is written and means something when
// it is evaluated. Evaluate is a function of values: the rule and what is known of the certificate. What follows from a
// finding is told by its severity: Error and Critical forbid, Warning is put on record. To which certificates a rule
// applies (whether it is enabled, and for which agent group it is) its caller decides.
package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
)

// Type is a type of rules.
type Type string

// The types of rules.
const (
	AllowedIssuers      Type = "AllowedIssuers"
	AllowedDomains      Type = "AllowedDomains"
	RequiredMetadata    Type = "RequiredMetadata"
	AllowedEnvironments Type = "AllowedEnvironments"
	RenewalLeadTime     Type = "RenewalLeadTime"
)

// Types lists every type.
var Types = []Type{AllowedIssuers, AllowedDomains, RequiredMetadata, AllowedEnvironments, RenewalLeadTime}

// Severity says how grave it is to break a rule.
type Severity string

// The severities.
const (
	Warning  Severity = "Warning"
	Error    Severity = "Error"
	Critical Severity = "Critical"
)

// Severities lists every severity.
var Severities = []Severity{Warning, Error, Critical}

// Blocks reports whether what breaks a rule of the severity is refused.
func (s Severity) Blocks() bool { return s == Error || s == Critical }

// Stage is what is about to be done with a certificate when rules are held against it.
type Stage string

// The stages.
const (
	Issue  Stage = "issue"
	Renew  Stage = "renew"
	Deploy Stage = "deploy"
)

// Spec is a rule as people write it.
type Spec struct {
	ID, Name string
	Type     Type
	Severity Severity
	// Config is the configuration of the type, as it came.
	Config map[string]any
	// AgentGroupID limits the rule to certificates that an agent of the group installs; empty is all.
	AgentGroupID string
	Enabled      bool
}

// Rule is a rule that can be evaluated. Make one with [Spec.Rule]; it is immutable and safe for concurrent use.
type Rule struct {
	Spec
	Revision             int64
	CreatedAt, UpdatedAt time.Time

	check check
}

// Facts are what rules look at.
type Facts struct {
	CertificateID, Name, CommonName string
	// SANs hold every name in normal form.
	SANs                                   []string
	Environment, OwnerID, TeamID, IssuerID string
	ProfileID, RenewalPolicyID             string
	Tags                                   map[string]string
	// RenewalWindowDays is how long before the end the renewal policy opens its window, zero if that is not known.
	RenewalWindowDays int
}

// Finding is one value that breaks a rule.
type Finding struct {
	RuleID, RuleName string
	Severity         Severity
	// Field is the part of the certificate's record at fault.
	Field string
	// Message names the rule, the value, and what is allowed.
	Message string
}

// check is a configuration that was understood.
type check interface {
	// find calls object for each value that breaks the rule.
	find(f *Facts, object func(field, message string))
}

const (
	maxName    = 255
	maxEntries = 200
	// maxMessage is what fits into a row of an index, and a problem document.
	maxMessage = 1000
)

// Rule checks a spec and makes it fit to be evaluated. Its error is Invalid and names every field at fault.
func (s Spec) Rule() (*Rule, error) {
	var bad []fault.Field
	object := func(field, reason string) { bad = append(bad, fault.Field{Name: field, Reason: reason}) }
	s.Name = strings.TrimSpace(s.Name)
	if s.Severity == "" {
		s.Severity = Warning
	}
	if s.Config == nil {
		s.Config = map[string]any{}
	}
	r := &Rule{Spec: s}
	if !id.Valid(s.ID) {
		object("id", "must be 1 to 64 of a-z, 0-9, - and _, beginning with a letter or a digit")
	}
	switch {
	case s.Name == "":
		object("name", "is required")
	case utf8.RuneCountInString(s.Name) > maxName:
		object("name", fmt.Sprintf("has more than %d characters", maxName))
	case !printable(s.Name):
		object("name", "holds control characters")
	}
	if !slices.Contains(Severities, s.Severity) {
		object("severity", fmt.Sprintf("%q is none of Warning, Error and Critical", s.Severity))
	}
	if s.AgentGroupID != "" && !id.Valid(s.AgentGroupID) {
		object("agent_group_id", "is no valid id")
	}
	if read, ok := readers[s.Type]; ok {
		c := config{of: s.Config, object: func(field, reason string) { object("config."+field, reason) }}
		r.check = read(&c)
		c.finish(s.Type)
	} else {
		object("type", fmt.Sprintf("%q is none of AllowedIssuers, AllowedDomains, RequiredMetadata, AllowedEnvironments and RenewalLeadTime", s.Type))
	}
	if len(bad) > 0 {
		return nil, fault.InvalidFields(bad...)
	}
	return r, nil
}

// Evaluate returns what of a certificate breaks a rule, in the order in which it was found.
func Evaluate(r *Rule, f *Facts) []Finding {
	var found []Finding
	r.check.find(f, func(field, message string) {
		found = append(found, Finding{
			RuleID: r.ID, RuleName: r.Name, Severity: r.Severity, Field: field,
			Message: bounded(fmt.Sprintf("policy %q (%s, %s) %s", r.Name, r.ID, r.Type, message)),
		})
	})
	return found
}

func bounded(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage], "") + "…"
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// some lists the first of many values.
func some(values []string) string {
	const most = 10
	if len(values) > most {
		return strings.Join(values[:most], ", ") + fmt.Sprintf(" and %d more", len(values)-most)
	}
	return strings.Join(values, ", ")
}
