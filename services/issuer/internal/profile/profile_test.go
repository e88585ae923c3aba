package profile_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/lint"
	"github.com/certctl/certctl/services/issuer/internal/profile"
)

func made(t *testing.T, change func(*profile.Spec)) *profile.Profile {
	t.Helper()
	s := profile.Spec{ID: "prof-web", Name: "Web", Enabled: true}
	change(&s)
	p, err := s.Profile()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSpec_HasDefaults(t *testing.T) {
	p := made(t, func(*profile.Spec) {})
	if d := cmp.Diff(profile.Spec{
		ID: "prof-web", Name: "Web", Enabled: true, EKUs: []string{"serverAuth"},
		Keys:        []profile.Key{{Algorithm: "ECDSA", MinSize: 256}, {Algorithm: "RSA", MinSize: 2048}},
		LintRuleset: lint.RFC, LintMode: profile.LintWarn,
	}, p.Spec); d != "" {
		t.Error(d)
	}
}

func TestSpec_NamesEveryFieldAtFault(t *testing.T) {
	tests := []struct {
		name   string
		change func(*profile.Spec)
		field  string
	}{
		{"no name", func(s *profile.Spec) { s.Name = " " }, "name"},
		{"a name with a NUL", func(s *profile.Spec) { s.Name = "a\x00" }, "name"},
		{"an id that is none", func(s *profile.Spec) { s.ID = "Prof.1" }, "id"},
		{"an unknown algorithm", func(s *profile.Spec) { s.Keys = []profile.Key{{Algorithm: "DSA", MinSize: 2048}} }, "allowed_key_algorithms[0].algorithm"},
		{"a weak RSA key", func(s *profile.Spec) { s.Keys = []profile.Key{{Algorithm: "RSA", MinSize: 1024}} }, "allowed_key_algorithms[0].min_size"},
		{"a weak curve", func(s *profile.Spec) { s.Keys = []profile.Key{{Algorithm: "ECDSA", MinSize: 224}} }, "allowed_key_algorithms[0].min_size"},
		{"an OID as usage", func(s *profile.Spec) { s.EKUs = []string{"serverAuth", "1.3.6.1.5.5.7.3.2"} }, "allowed_ekus[1]"},
		{"a negative lifetime", func(s *profile.Spec) { s.MaxTTL = -1 }, "max_ttl_seconds"},
		{"a lifetime beyond all bounds", func(s *profile.Spec) { s.MaxTTL = 200 * 365 * 24 * time.Hour }, "max_ttl_seconds"},
		{"short-lived for long", func(s *profile.Spec) { s.MaxTTL, s.AllowShortLived = time.Hour, true }, "allow_short_lived"},
		{"short without leave", func(s *profile.Spec) { s.MaxTTL = time.Hour - time.Second }, "max_ttl_seconds"},
		{"a pattern that is none", func(s *profile.Spec) { s.RequiredSANs = []string{"("} }, "required_san_patterns[0]"},
		{"a pattern out of its group", func(s *profile.Spec) { s.RequiredSANs = []string{"a)|(b"} }, "required_san_patterns[0]"},
		{"a look-ahead", func(s *profile.Spec) { s.RequiredSANs = []string{"(?=a)"} }, "required_san_patterns[0]"},
		{"an empty pattern", func(s *profile.Spec) { s.RequiredSANs = []string{"a", ""} }, "required_san_patterns[1]"},
		{"a pattern of another scheme", func(s *profile.Spec) { s.SPIFFE = "https://example.org/*" }, "spiffe_uri_pattern"},
		{"a wildcard in the trust domain", func(s *profile.Spec) { s.SPIFFE = "spiffe://*/a" }, "spiffe_uri_pattern"},
		{"an unknown ruleset", func(s *profile.Spec) { s.LintRuleset = "off" }, "lint_ruleset"},
		{"an unknown mode", func(s *profile.Spec) { s.LintMode = "off" }, "lint_mode"},
		{"what is no lint", func(s *profile.Spec) { s.LintIgnore = []string{"w_one", "RFC 5280"} }, "lint_ignore[1]"},
		{"too many lints", func(s *profile.Spec) { s.LintIgnore = make([]string, 101) }, "lint_ignore"},
		{"two wildcards inside", func(s *profile.Spec) { s.SPIFFE = "spiffe://example.org/**/a" }, "spiffe_uri_pattern"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := profile.Spec{ID: "prof-web", Name: "Web"}
			tt.change(&s)
			_, err := s.Profile()
			if f := fault.From(err); f == nil || f.Code != fault.Invalid || len(f.Fields) != 1 || f.Fields[0].Name != tt.field {
				t.Errorf("error %v, want one about %s", err, tt.field)
			}
		})
	}
}

func key(t *testing.T, kind string) crypto.PublicKey {
	t.Helper()
	var signer crypto.Signer
	var err error
	switch kind {
	case "P-256":
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "Ed25519":
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	default:
		return &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer.Public()
}

func TestKey_MustBeOfAnAllowedKindAndSize(t *testing.T) {
	p := made(t, func(s *profile.Spec) {
		s.Keys = []profile.Key{{Algorithm: "ECDSA", MinSize: 384}, {Algorithm: "RSA", MinSize: 3072}, {Algorithm: "Ed25519", MinSize: 512}}
	})
	for kind, want := range map[string]bool{"P-256": false, "P-384": true, "RSA 2048": false, "Ed25519": true} {
		err := p.CheckKey(key(t, kind))
		if (err == nil) != want {
			t.Errorf("%s: %v", kind, err)
		}
		if err == nil {
			continue
		}
		for _, part := range []string{"prof-web", "Web", "allowed_key_algorithms", "ECDSA from 384 bits", "RSA from 3072 bits"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v lacks %q", kind, err, part)
			}
		}
	}
	var none *profile.Profile
	if err := none.CheckKey(key(t, "P-256")); err != nil {
		t.Error(err)
	}
}

func TestNames_MustHoldWhatIsRequiredAndNothingThatIsNotAllowed(t *testing.T) {
	required := func(s *profile.Spec) { s.RequiredSANs = []string{`[a-z]+\.example\.com`, `api.*`} }
	spiffe := func(pattern string) func(*profile.Spec) { return func(s *profile.Spec) { s.SPIFFE = pattern } }
	tests := []struct {
		name   string
		change func(*profile.Spec)
		names  []string
		says   string
	}{
		{"all required", required, []string{"www.example.com", "api.example.org"}, ""},
		{"one name for both", required, []string{"api.example.com"}, ""},
		{"one is missing", required, []string{"www.example.com"}, "api.*"},
		{"anchored at the start", required, []string{"1.www.example.com", "api"}, `[a-z]+\.example\.com`},
		{"anchored at the end", required, []string{"www.example.com.evil.org", "api"}, "required_san_patterns"},
		{"a URI without a pattern", func(*profile.Spec) {}, []string{"spiffe://example.org/a"}, "spiffe_uri_pattern"},
		{"a URI that fits", spiffe("spiffe://example.org/ns/*/sa/*"), []string{"spiffe://example.org/ns/prod/sa/web"}, ""},
		{"a segment too many", spiffe("spiffe://example.org/ns/*"), []string{"spiffe://example.org/ns/prod/sa"}, "does not fit"},
		{"all that is left", spiffe("spiffe://example.org/ns/**"), []string{"spiffe://example.org/ns/prod/sa"}, ""},
		{"nothing is left", spiffe("spiffe://example.org/ns/**"), []string{"spiffe://example.org/ns"}, "does not fit"},
		{"another trust domain", spiffe("spiffe://example.org/*"), []string{"spiffe://example.com/a"}, "does not fit"},
		{"a dot is a dot", spiffe("spiffe://example.org/a.b"), []string{"spiffe://example.org/aXb"}, "does not fit"},
		{"a query", spiffe("spiffe://example.org/**"), []string{"spiffe://example.org/a?b"}, "no SPIFFE id"},
		{"another scheme", spiffe("spiffe://example.org/**"), []string{"https://example.org/a"}, "no SPIFFE id"},
		{"two URIs", spiffe("spiffe://example.org/**"), []string{"spiffe://example.org/a", "spiffe://example.org/b"}, "allows one"},
		{"none, though one may be", spiffe("spiffe://example.org/**"), []string{"www.example.com"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			names, err := x509x.ParseNames("", tt.names)
			if err != nil {
				t.Fatal(err)
			}
			err = made(t, tt.change).CheckNames(names)
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %q", err, tt.says)
			}
		})
	}
	var none *profile.Profile
	uri, _ := x509x.ParseNames("", []string{"spiffe://example.org/a"})
	if err := none.CheckNames(uri); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("a URI without a profile: %v", err)
	}
}

func TestShortLived_IsWhatMayBeAndIs(t *testing.T) {
	if made(t, func(s *profile.Spec) { s.MaxTTL = time.Hour }).IsShortLived() {
		t.Error("an hour is short")
	}
	if !made(t, func(s *profile.Spec) { s.MaxTTL, s.AllowShortLived = 10*time.Minute, true }).IsShortLived() {
		t.Error("ten minutes are long")
	}
	if made(t, func(s *profile.Spec) { s.AllowShortLived = true }).IsShortLived() {
		t.Error("the CA's own lifetime is short")
	}
}

func TestAgentKey_IsTheSmallestCurveThatIsAllowed(t *testing.T) {
	var none *profile.Profile
	for want, p := range map[profile.Key]*profile.Profile{
		{Algorithm: "ECDSA", MinSize: 256}: none,
		{Algorithm: "ECDSA", MinSize: 384}: made(t, func(s *profile.Spec) {
			s.Keys = []profile.Key{{Algorithm: "RSA", MinSize: 4096}, {Algorithm: "ECDSA", MinSize: 300}}
		}),
		{Algorithm: "ECDSA", MinSize: 521}: made(t, func(s *profile.Spec) { s.Keys = []profile.Key{{Algorithm: "ECDSA", MinSize: 512}} }),
		{Algorithm: "RSA", MinSize: 4096}:  made(t, func(s *profile.Spec) { s.Keys = []profile.Key{{Algorithm: "RSA", MinSize: 4096}} }),
	} {
		if got := p.AgentKey(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestIssued_MustNotBeMoreThanWasAskedFor(t *testing.T) {
	now := time.Now()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := made(t, func(s *profile.Spec) { s.MaxTTL = 24 * time.Hour })
	for name, tt := range map[string]struct {
		ttl  time.Duration
		ekus []x509.ExtKeyUsage
		says string
	}{
		"as asked":      {24 * time.Hour, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, ""},
		"longer":        {25 * time.Hour, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, "max_ttl_seconds"},
		"for more":      {time.Hour, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, "clientAuth"},
		"for anything":  {time.Hour, nil, "anything"},
		"for all there": {time.Hour, []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, "allowed_ekus"},
	} {
		t.Run(name, func(t *testing.T) {
			template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(tt.ttl), ExtKeyUsage: tt.ekus}
			der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
			if err != nil {
				t.Fatal(err)
			}
			err = p.CheckIssued(der, now)
			if (err == nil) != (tt.says == "") || err != nil && (!strings.Contains(err.Error(), tt.says) || fault.CodeOf(err) != fault.Conflict) {
				t.Errorf("error %v, want %q", err, tt.says)
			}
		})
	}
	if err := p.CheckIssued([]byte("x"), now); err == nil {
		t.Error("what is no certificate passes")
	}
}
