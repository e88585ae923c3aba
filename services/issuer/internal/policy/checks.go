package policy

import (
	"fmt"
	"slices"

	"github.com/certctl/certctl/libs/id"
)

var readers = map[Type]func(*config) check{
	AllowedIssuers: func(c *config) check {
		return &allowedIssuers{ids: c.required("issuer_ids", func(s string) string {
			if !id.Valid(s) {
				return "is no valid id"
			}
			return ""
		})}
	},
	AllowedDomains:   readDomains,
	RequiredMetadata: readMetadata,
	AllowedEnvironments: func(c *config) check {
		return &allowedEnvironments{names: c.required("environments", nil)}
	},
	RenewalLeadTime: func(c *config) check {
		return &renewalLeadTime{days: c.whole("min_days", 1, 3650)}
	},
}

type allowedIssuers struct{ ids []string }

func (a *allowedIssuers) find(f *Facts, object func(field, message string)) {
	if !slices.Contains(a.ids, f.IssuerID) {
		object("issuer_id", fmt.Sprintf("allows the issuers %s; %s is none of them", some(a.ids), f.IssuerID))
	}
}

type allowedEnvironments struct{ names []string }

func (a *allowedEnvironments) find(f *Facts, object func(field, message string)) {
	switch {
	case f.Environment == "":
		object("environment", fmt.Sprintf("allows the environments %s; the certificate has none", some(a.names)))
	case !slices.Contains(a.names, f.Environment):
		object("environment", fmt.Sprintf("allows the environments %s; %q is none of them", some(a.names), f.Environment))
	}
}

type renewalLeadTime struct{ days int }

func (r *renewalLeadTime) find(f *Facts, object func(field, message string)) {
	if f.RenewalWindowDays < r.days {
		object("renewal_policy_id", fmt.Sprintf("asks for a renewal at least %d days before expiry; renewal policy %s opens its window %d days before",
			r.days, f.RenewalPolicyID, f.RenewalWindowDays))
	}
}

// What a record holds if nobody said anything.
const (
	defaultOwner = "o-default"
	defaultTeam  = "t-default"
)

// metadata says of each field that can be required whether a certificate lacks it. What was filled in by default counts as
// missing: otherwise every certificate would have an owner, and nobody to call.
var metadata = map[string]func(*Facts) bool{
	"name":                   func(f *Facts) bool { return f.Name == "" || f.Name == f.CommonName },
	"environment":            func(f *Facts) bool { return f.Environment == "" },
	"owner_id":               func(f *Facts) bool { return f.OwnerID == "" || f.OwnerID == defaultOwner },
	"team_id":                func(f *Facts) bool { return f.TeamID == "" || f.TeamID == defaultTeam },
	"certificate_profile_id": func(f *Facts) bool { return f.ProfileID == "" },
	"tags":                   func(f *Facts) bool { return len(f.Tags) == 0 },
}

type requiredMetadata struct{ fields, tags []string }

func readMetadata(c *config) check {
	r := &requiredMetadata{
		fields: c.strings("fields", func(s string) string {
			if _, ok := metadata[s]; !ok {
				return "is none of name, environment, owner_id, team_id, certificate_profile_id and tags"
			}
			return ""
		}),
		tags: c.strings("tags", nil),
	}
	if isEmpty(c.of["fields"]) && isEmpty(c.of["tags"]) {
		c.object("fields", "must name at least one, or tags must")
	}
	return r
}

// isEmpty reports whether a list of a configuration was left out or is empty.
func isEmpty(v any) bool {
	list, ok := v.([]any)
	return v == nil || ok && len(list) == 0
}

func (r *requiredMetadata) find(f *Facts, object func(field, message string)) {
	for _, field := range r.fields {
		if metadata[field](f) {
			object(field, fmt.Sprintf("requires %s to be given; it is %s", field, value(f, field)))
		}
	}
	for _, key := range r.tags {
		if f.Tags[key] == "" {
			object("tags", fmt.Sprintf("requires the tag %s to have a value; it has none", key))
		}
	}
}

// value is what stands where something had to be given.
func value(f *Facts, field string) string {
	switch {
	case field == "owner_id" && f.OwnerID != "":
		return "the default, " + f.OwnerID
	case field == "team_id" && f.TeamID != "":
		return "the default, " + f.TeamID
	case field == "name" && f.Name != "":
		return "the default, " + f.Name
	default:
		return "empty"
	}
}
