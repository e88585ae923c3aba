package issuance

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/x509x"
)

// What a request refers to when it does not say.
const (
	DefaultOwner         = "o-default"
	DefaultTeam          = "t-default"
	DefaultIssuer        = "iss-local"
	DefaultRenewalPolicy = "rp-default"
)

const (
	maxText     = 255
	maxNames    = 100
	maxTargets  = 100
	maxTags     = 100
	maxTagValue = 1024
	maxRequest  = 32768
)

// Request asks for a new certificate. Only CommonName is required.
type Request struct {
	ID, Name, CommonName      string
	SANs                      []string
	Environment               string
	OwnerID, TeamID           string
	IssuerID, RenewalPolicyID string
	ProfileID                 string
	TargetIDs                 []string
	Tags                      map[string]string
	CSRPEM                    string
}

// draft is the record that a request asks for, in normal form. Its error is Invalid and names every field at fault.
func (r Request) draft(now time.Time) (Certificate, error) {
	var bad []fault.Field
	object := func(field, reason string) { bad = append(bad, fault.Field{Name: field, Reason: reason}) }

	c := Certificate{
		ID: r.ID, Name: strings.TrimSpace(r.Name), Environment: r.Environment, TargetIDs: r.TargetIDs, Tags: r.Tags,
		OwnerID: orDefault(r.OwnerID, DefaultOwner), TeamID: orDefault(r.TeamID, DefaultTeam),
		IssuerID: orDefault(r.IssuerID, DefaultIssuer), RenewalPolicyID: orDefault(r.RenewalPolicyID, DefaultRenewalPolicy),
		ProfileID: r.ProfileID,
		Status:    Pending, CreatedAt: now, UpdatedAt: now,
	}
	if c.ID == "" {
		c.ID = id.New(certificatePrefix)
	} else if !id.Valid(c.ID) {
		object("id", "must be 1 to 64 of a-z, 0-9, - and _, beginning with a letter or a digit")
	}
	for _, ref := range [...]struct{ field, id string }{
		{"owner_id", c.OwnerID}, {"team_id", c.TeamID}, {"issuer_id", c.IssuerID}, {"renewal_policy_id", c.RenewalPolicyID},
	} {
		if !id.Valid(ref.id) {
			object(ref.field, "is no valid id")
		}
	}
	if c.ProfileID != "" && !id.Valid(c.ProfileID) {
		object("certificate_profile_id", "is no valid id")
	}
	c.CommonName, c.SANs, bad = names(r.CommonName, r.SANs, bad)
	if c.Name == "" {
		c.Name = c.CommonName
	}
	checkText(object, "name", c.Name, maxText)
	checkText(object, "environment", c.Environment, maxText)
	checkTags(object, r.Tags)
	checkTargets(object, r.TargetIDs)
	if len(r.CSRPEM) > maxRequest {
		object("csr_pem", "is longer than "+strconv.Itoa(maxRequest)+" bytes")
	}
	if len(bad) > 0 {
		return Certificate{}, fault.InvalidFields(bad...)
	}
	return c, nil
}

// names brings the names of a certificate into normal form, the common name first and each once. Whether a URI may be
// among them is for the profile to say.
func names(commonName string, sans []string, bad []fault.Field) (string, []string, []fault.Field) {
	if strings.TrimSpace(commonName) == "" {
		return "", nil, append(bad, fault.Field{Name: "common_name", Reason: "is required"})
	}
	if len(sans) > maxNames {
		return "", nil, append(bad, fault.Field{Name: "sans", Reason: "has more than " + strconv.Itoa(maxNames) + " names"})
	}
	all, err := x509x.ParseNames(commonName, sans)
	if err != nil {
		return "", nil, append(bad, fault.From(err).Fields...)
	}
	for _, n := range all {
		if n.Kind != x509x.DNS && n.Kind != x509x.IP && n.Kind != x509x.URI {
			bad = append(bad, fault.Field{Name: "sans", Reason: "holds " + n.Value + ", which is neither a host name nor an address nor a URI"})
		}
	}
	first := all
	if len(all) > 1 {
		if first, err = x509x.ParseNames(commonName, nil); err != nil {
			return "", nil, append(bad, fault.From(err).Fields...)
		}
	}
	if first[0].Kind == x509x.URI {
		bad = append(bad, fault.Field{Name: "common_name", Reason: "must be a host name or an address; a URI belongs among the sans"})
	}
	out := append(make([]string, 0, len(all)), first[0].Value)
	return first[0].Value, append(out, all.Minus(first).Values()...), bad
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func checkText(object func(field, reason string), field, s string, limit int) {
	switch {
	case utf8.RuneCountInString(s) > limit:
		object(field, "has more than "+strconv.Itoa(limit)+" characters")
	case !Printable(s):
		object(field, "holds control characters")
	}
}

// Printable reports whether s is a text that may be stored and shown.
func Printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func checkTags(object func(field, reason string), tags map[string]string) {
	if len(tags) > maxTags {
		object("tags", "has more than "+strconv.Itoa(maxTags)+" entries")
		return
	}
	for k, v := range tags {
		if k == "" || len(k) > maxText || !Printable(k) {
			object("tags", "has a key that is empty, too long or unprintable")
		}
		if len(v) > maxTagValue || !Printable(v) {
			object("tags", "has a value that is too long or unprintable")
		}
	}
}

func checkTargets(object func(field, reason string), targets []string) {
	if len(targets) > maxTargets {
		object("target_ids", "has more than "+strconv.Itoa(maxTargets)+" entries")
		return
	}
	seen := make(map[string]bool, len(targets))
	for i, t := range targets {
		switch {
		case !id.Valid(t):
			object("target_ids["+strconv.Itoa(i)+"]", "is no valid id")
		case seen[t]:
			object("target_ids["+strconv.Itoa(i)+"]", "is there twice")
		}
		seen[t] = true
	}
}

// checkReach refuses targets that are not known or switched off, and targets on several hosts: the private key never
// leaves the host that made it.
func checkReach(targets []Target) error {
	var bad []fault.Field
	for i, t := range targets {
		field := "target_ids[" + strconv.Itoa(i) + "]"
		switch {
		case t.AgentID == "":
			bad = append(bad, fault.Field{Name: field, Reason: "unknown target " + t.ID})
		case !t.Enabled:
			bad = append(bad, fault.Field{Name: field, Reason: "target " + t.ID + " is disabled"})
		case t.AgentID != targets[0].AgentID && targets[0].AgentID != "":
			bad = append(bad, fault.Field{
				Name: field,
				Reason: "target " + t.ID + " is on another agent than " + targets[0].ID +
					"; a private key never leaves its host, so make one certificate for each agent",
			})
		}
	}
	if len(bad) > 0 {
		return fault.InvalidFields(bad...)
	}
	return nil
}
