package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/policy"
)

type config = map[string]any

func list(s ...string) []any {
	out := make([]any, len(s))
	for i := range s {
		out[i] = s[i]
	}
	return out
}

func rule(t *testing.T, kind policy.Type, c config) *policy.Rule {
	t.Helper()
	r, err := policy.Spec{ID: "pr-1", Name: "The rule", Type: kind, Severity: policy.Error, Config: c, Enabled: true}.Rule()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEvaluate_HoldsTheConfigurationAgainstTheCertificate(t *testing.T) {
	domains := config{"allow": list("example.com", "*.Example.com.", "10.0.0.0/8", "2001:db8::/32", "192.0.2.1"), "deny": list("*.staging.example.com", "secret.example.com", "10.9.0.0/16")}
	tests := []struct {
		name   string
		kind   policy.Type
		config config
		facts  policy.Facts
		// What the messages say, one each.
		says []string
	}{
		{"an allowed issuer", policy.AllowedIssuers, config{"issuer_ids": list("iss-a", "iss-b")}, policy.Facts{IssuerID: "iss-b"}, nil},
		{"another issuer", policy.AllowedIssuers, config{"issuer_ids": list("iss-a", "iss-b")}, policy.Facts{IssuerID: "iss-c"}, []string{"iss-a, iss-b; iss-c is none"}},

		{"the apex by itself", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"example.com"}}, nil},
		{"a name below", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"a.b.example.com", "www.example.com"}}, nil},
		{"the apex is not below itself", policy.AllowedDomains, config{"allow": list("*.example.com")}, policy.Facts{SANs: []string{"example.com"}}, []string{"example.com is none"}},
		{"a name that only ends alike", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"evilexample.com"}}, []string{"evilexample.com"}},
		{"deny wins", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"a.staging.example.com"}}, []string{"denies *.staging.example.com; a.staging.example.com"}},
		{"a denied apex is not below itself", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"staging.example.com"}}, nil},
		{"a wildcard below", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"*.www.example.com"}}, nil},
		{"a wildcard that covers what is denied", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"*.example.com"}}, []string{"denies secret.example.com; *.example.com"}},
		{"a wildcard below what is denied", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"*.staging.example.com"}}, []string{"denies *.staging.example.com"}},
		{"each name for itself", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"www.example.com", "a.org", "b.org"}}, []string{"a.org", "b.org"}},
		{"an address in a range", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"10.1.2.3", "2001:db8::1", "192.0.2.1"}}, nil},
		{"an address out of it", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"192.0.2.2"}}, []string{"192.0.2.2"}},
		{"an address that is denied", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"10.9.1.1"}}, []string{"denies 10.9.0.0/16"}},
		{"an address needs an address", policy.AllowedDomains, config{"allow": list("*.example.com")}, policy.Facts{SANs: []string{"10.1.2.3"}}, []string{"10.1.2.3"}},
		{"only what is denied", policy.AllowedDomains, config{"deny": list("evil.org")}, policy.Facts{SANs: []string{"good.org", "10.1.2.3"}}, nil},
		{"the host of a URI", policy.AllowedDomains, domains, policy.Facts{SANs: []string{"spiffe://example.com/a", "spiffe://example.org/a"}}, []string{"spiffe://example.org/a"}},

		{
			"all metadata", policy.RequiredMetadata,
			config{"fields": list("owner_id", "team_id", "name", "environment", "certificate_profile_id", "tags"), "tags": list("cost-centre")},
			policy.Facts{OwnerID: "o-1", TeamID: "t-1", Name: "Shop", CommonName: "www", Environment: "prod", ProfileID: "p", Tags: map[string]string{"cost-centre": "7"}},
			nil,
		},
		{
			"defaults are nobody's word", policy.RequiredMetadata,
			config{"fields": list("owner_id", "team_id", "name")},
			policy.Facts{OwnerID: "o-default", TeamID: "t-default", Name: "www", CommonName: "www"},
			[]string{"o-default", "t-default", "name to be given"},
		},
		{
			"no metadata", policy.RequiredMetadata,
			config{"fields": list("environment", "certificate_profile_id", "tags"), "tags": list("a", "b")},
			policy.Facts{},
			[]string{"environment", "certificate_profile_id", "tags", "the tag a", "the tag b"},
		},
		{"a tag without a value", policy.RequiredMetadata, config{"tags": list("a")}, policy.Facts{Tags: map[string]string{"a": ""}}, []string{"the tag a"}},

		{"an allowed environment", policy.AllowedEnvironments, config{"environments": list("prod", "staging")}, policy.Facts{Environment: "staging"}, nil},
		{"another environment", policy.AllowedEnvironments, config{"environments": list("prod")}, policy.Facts{Environment: "Prod"}, []string{`prod; "Prod" is none`}},
		{"no environment", policy.AllowedEnvironments, config{"environments": list("prod")}, policy.Facts{}, []string{"has none"}},

		{"early enough", policy.RenewalLeadTime, config{"min_days": 30.0}, policy.Facts{RenewalWindowDays: 30}, nil},
		{"too late", policy.RenewalLeadTime, config{"min_days": 30.0}, policy.Facts{RenewalPolicyID: "rp-late", RenewalWindowDays: 29}, []string{"rp-late opens its window 29 days before"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := policy.Evaluate(rule(t, tt.kind, tt.config), &tt.facts)
			if len(found) != len(tt.says) {
				t.Fatalf("%d findings, want %d: %+v", len(found), len(tt.says), found)
			}
			for i, f := range found {
				for _, part := range []string{tt.says[i], "The rule", "pr-1", string(tt.kind)} {
					if !strings.Contains(f.Message, part) {
						t.Errorf("message %q lacks %q", f.Message, part)
					}
				}
				if f.RuleID != "pr-1" || f.Severity != policy.Error || f.Field == "" {
					t.Errorf("finding %+v", f)
				}
			}
		})
	}
}

func TestSpec_NamesTheFieldAtFault(t *testing.T) {
	tests := []struct {
		name   string
		kind   policy.Type
		config config
		fields []string
	}{
		{"an unknown type", "ownership", config{}, []string{"type"}},
		{"a type in another case", "allowedissuers", config{"issuer_ids": list("iss-local")}, []string{"type"}},
		{"no configuration", policy.AllowedIssuers, nil, []string{"config.issuer_ids"}},
		{"an empty list", policy.AllowedIssuers, config{"issuer_ids": list()}, []string{"config.issuer_ids"}},
		{"no list", policy.AllowedIssuers, config{"issuer_ids": "iss-local"}, []string{"config.issuer_ids"}},
		{"no text", policy.AllowedIssuers, config{"issuer_ids": []any{7.0}}, []string{"config.issuer_ids[0]"}},
		{"no id", policy.AllowedIssuers, config{"issuer_ids": list("a", "Not an id")}, []string{"config.issuer_ids[1]"}},
		{"a misspelt key", policy.AllowedIssuers, config{"issuer_ids": list("a"), "issuers": list("b")}, []string{"config.issuers"}},
		{"neither allowed nor denied", policy.AllowedDomains, config{"allow": list()}, []string{"config.allow"}},
		{"a wildcard inside", policy.AllowedDomains, config{"allow": list("www.*.com")}, []string{"config.allow[0]"}},
		{"two wildcards", policy.AllowedDomains, config{"deny": list("*.*.com")}, []string{"config.deny[0]"}},
		{"a wildcard alone", policy.AllowedDomains, config{"allow": list("*")}, []string{"config.allow[0]"}},
		{"a bad range", policy.AllowedDomains, config{"allow": list("10.0.0.0/33")}, []string{"config.allow[0]"}},
		{"denied by a misspelt key", policy.AllowedDomains, config{"allow": list("a.com"), "denied": list("b.com")}, []string{"config.denied"}},
		{"an unknown field", policy.RequiredMetadata, config{"fields": list("colour")}, []string{"config.fields[0]"}},
		{"no field and no tag", policy.RequiredMetadata, config{}, []string{"config.fields"}},
		{"no environment", policy.AllowedEnvironments, config{"environments": nil}, []string{"config.environments"}},
		{"no days", policy.RenewalLeadTime, config{}, []string{"config.min_days"}},
		{"half a day", policy.RenewalLeadTime, config{"min_days": 0.5}, []string{"config.min_days"}},
		{"days as text", policy.RenewalLeadTime, config{"min_days": "30"}, []string{"config.min_days"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.Spec{ID: "pr-1", Name: "x", Type: tt.kind, Config: tt.config}.Rule()
			f := fault.From(err)
			if f == nil || f.Code != fault.Invalid {
				t.Fatalf("error %v", err)
			}
			var got []string
			for _, field := range f.Fields {
				got = append(got, field.Name)
			}
			if d := cmp.Diff(tt.fields, got); d != "" {
				t.Error(d)
			}
		})
	}
	_, err := policy.Spec{ID: "PR", Name: " ", Type: policy.AllowedEnvironments, Severity: "Fatal", AgentGroupID: "*", Config: config{"environments": list("a")}}.Rule()
	if f := fault.From(err); f == nil || len(f.Fields) != 4 {
		t.Errorf("error %v", err)
	}
}

func TestSeverity_OfAWarningLetsPass(t *testing.T) {
	r, err := policy.Spec{ID: "pr-1", Name: "x", Type: policy.AllowedEnvironments, Config: config{"environments": list("a")}}.Rule()
	if err != nil || r.Severity != policy.Warning {
		t.Errorf("severity %q, error %v", r.Severity, err)
	}
	if policy.Warning.Blocks() || !policy.Error.Blocks() || !policy.Critical.Blocks() {
		t.Error("the wrong severities forbid")
	}
}

func FuzzSpec_NeverPanics(f *testing.F) {
	f.Add("*.example.com", "10.0.0.0/8")
	f.Fuzz(func(_ *testing.T, pattern, name string) {
		r, err := policy.Spec{ID: "pr-1", Name: "x", Type: policy.AllowedDomains, Config: config{"allow": list(pattern), "deny": list(name)}}.Rule()
		if err == nil {
			policy.Evaluate(r, &policy.Facts{SANs: []string{name, "*." + name}})
		}
	})
}
