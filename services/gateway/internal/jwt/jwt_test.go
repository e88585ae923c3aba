package jwt

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
)

func TestToken_NamesItsHolderWhateverAlgorithmItsIssuerUses(t *testing.T) {
	for _, algorithm := range []jose.SignatureAlgorithm{jose.RS256, jose.PS384, jose.ES256, jose.ES384, jose.EdDSA} {
		t.Run(string(algorithm), func(t *testing.T) {
			k := newKey(t, "one", algorithm)
			i := newIssuer(t, k.public)
			p := accepted(t, i.verifier(i.config()), sign(t, k.private, algorithm, "one", i.claimed("name", "Ada L.")))
			want := authn.Principal{ID: "user-ada", Name: "Ada L.", Kind: authn.KindUser, Roles: []string{"operator"}}
			if diff := cmp.Diff(want, p); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestToken_IsRefusedUnlessEveryClaimIsRight(t *testing.T) {
	k := newKey(t, "one", jose.ES256)
	i := newIssuer(t, k.public)
	v := i.verifier(i.config())
	now := i.clock.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for _, c := range []struct {
		name   string
		claims map[string]any
		says   string // empty if it is good
	}{
		{"all right", i.claimed(), ""},
		{"one audience, as text", i.claimed("aud", aud), ""},
		{"expired within the leeway", i.claimed("exp", at(-59*time.Second)), ""},
		{"expired", i.claimed("exp", at(-61*time.Second)), "expired"},
		{"no expiry", i.claimed("exp", nil), "no expiry"},
		{"not yet, within the leeway", i.claimed("nbf", at(59*time.Second)), ""},
		{"not yet", i.claimed("nbf", at(61*time.Second)), "not valid yet"},
		{"issued in the future", i.claimed("iat", at(61*time.Second)), "not valid yet"},
		{"another audience", i.claimed("aud", []string{"other"}), "not meant for"},
		{"no audience", i.claimed("aud", nil), "not meant for"},
		{"another issuer", i.claimed("iss", iss+"/"), "another issuer"},
		{"no issuer", i.claimed("iss", nil), "another issuer"},
		{"nobody", i.claimed("sub", nil), "names nobody"},
		{"an expiry that is no number", i.claimed("exp", "tomorrow"), "claims cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := v.Recognise(t.Context(), sign(t, k.private, jose.ES256, "one", c.claims))
			if c.says == "" && err != nil || c.says != "" && (fault.CodeOf(err) != fault.Unauthenticated || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("it says %v, want %q", err, c.says)
			}
		})
	}
}

// TestToken_CannotChooseHowItIsChecked are the attacks of RFC 8725 section 2.
func TestToken_CannotChooseHowItIsChecked(t *testing.T) {
	k, stranger := newKey(t, "one", jose.RS256), newKey(t, "one", jose.RS256)
	i := newIssuer(t, k.public)
	v := i.verifier(i.config())
	good := sign(t, k.private, jose.RS256, "one", i.claimed())
	accepted(t, v, good)
	part := strings.Split(good, ".")

	public, ok := k.public.Key.(*rsa.PublicKey)
	if !ok {
		t.Fatal("no RSA key")
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"one"}`))
	unequal := []byte(part[2])
	unequal[10] ^= 1
	for name, token := range map[string]string{
		"no signature, and none as the algorithm": none + "." + part[1] + ".",
		"none as the algorithm":                   none + "." + part[1] + "." + part[2],
		"no signature":                            part[0] + "." + part[1] + ".",
		"another signature":                       part[0] + "." + part[1] + "." + string(unequal),
		"the public key as an HS256 secret":       sign(t, asPEM, jose.HS256, "one", i.claimed()),
		"the public key's bytes as a secret":      sign(t, der, jose.HS256, "one", i.claimed()),
		"another's key under the same name":       sign(t, stranger.private, jose.RS256, "one", i.claimed()),
		"another's key that it brings itself":     signEmbedding(t, stranger),
		"an algorithm that the key is not for":    sign(t, k.private, jose.RS512, "one", i.claimed()),
		"claims of another token":                 part[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)) + "." + part[2],
		"a type that is not for signing in":       sign(t, k.private, jose.RS256, "one", i.claimed(), "typ", "logout+jwt"),
		"an extension that has to be understood":  sign(t, k.private, jose.RS256, "one", i.claimed(), "crit", "x"),
		"something else with three parts":         "a.b.c",
		"more than any token":                     good + strings.Repeat("A", maxToken),
		"the JSON form of the same":               `{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`,
	} {
		t.Run(name, func(t *testing.T) { refusedAs(t, fault.Unauthenticated, v, token) })
	}
	// The types of access tokens are good.
	for _, kind := range []string{"JWT", "jwt", "at+jwt", "application/at+jwt"} {
		accepted(t, v, sign(t, k.private, jose.RS256, "one", i.claimed(), "typ", kind))
	}
}

// signEmbedding makes a token that brings the key to check it with.
func signEmbedding(t *testing.T, k key) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: k.private}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(`{"iss":"` + iss + `","aud":"` + aud + `","sub":"root","exp":4000000000}`))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestSecret_SignsTokensAndIsNoTokenItself is what an implementation got wrong that took
// the secret for a key.
func TestSecret_SignsTokensAndIsNoTokenItself(t *testing.T) {
	i := newIssuer(t)
	c := i.config()
	c.JwksURL = ""
	if err := c.Validate(secret); err != nil {
		t.Fatal(err)
	}
	v, err := New(c, secret, i.clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if p := accepted(t, v, sign(t, []byte(secret), jose.HS256, "", i.claimed())); p.ID != "user-ada" {
		t.Errorf("it is %+v", p)
	}
	if v.Mine(secret) {
		t.Error("the secret is taken for a token")
	}
	rsaKey := newKey(t, "one", jose.RS256)
	for name, token := range map[string]string{
		"the secret":         secret,
		"another secret":     sign(t, []byte(secret+"x"), jose.HS256, "", i.claimed()),
		"another hash":       sign(t, []byte(secret+strings.Repeat("x", 32)), jose.HS512, "", i.claimed()),
		"a key of any other": sign(t, rsaKey.private, jose.RS256, "one", i.claimed()),
		"expired":            sign(t, []byte(secret), jose.HS256, "", i.claimed("exp", 1)),
	} {
		t.Run(name, func(t *testing.T) { refusedAs(t, fault.Unauthenticated, v, token) })
	}
}

func TestToken_GivesRolesAndScopeAsConfigured(t *testing.T) {
	k := newKey(t, "one", jose.ES256)
	i := newIssuer(t, k.public)
	nested := map[string]any{"roles": []any{"viewer", "approver", 7}}
	cases := []struct {
		name   string
		edit   func(*Config)
		claims []any
		roles  []string
		scope  authn.Scope
	}{
		{"a list", nil, []any{"roles", []string{"viewer", "operator", "root"}}, []string{"operator", "viewer"}, authn.Scope{}},
		{"text with spaces", nil, []any{"roles", "viewer  auditor"}, []string{"auditor", "viewer"}, authn.Scope{}},
		{"none", nil, []any{"roles", nil}, []string{}, authn.Scope{}},
		{"within an object", func(c *Config) { c.RolesClaim = "realm_access.roles" }, []any{"realm_access", nested}, []string{"approver", "viewer"}, authn.Scope{}},
		{"a name with dots", func(c *Config) { c.RolesClaim = "https://certctl.io/roles" }, []any{"https://certctl.io/roles", "mcp"}, []string{"mcp"}, authn.Scope{}},
		{"where no object is", func(c *Config) { c.RolesClaim = "sub.roles" }, nil, []string{}, authn.Scope{}},
		{
			"mapped, and then nothing else counts", func(c *Config) { c.RoleMapping = map[string]string{"pki-admins": "admin", "pki-ops": "operator"} },
			[]any{"roles", []string{"pki-ops", "admin", "staff"}},
			[]string{"operator"},
			authn.Scope{},
		},
		{
			"limits", func(c *Config) {
				c.TeamsClaim, c.EnvironmentsClaim, c.IssuersClaim, c.ProfilesClaim = "t", "e", "i", "p"
			},
			[]any{"t", "t-a t-b", "e", []string{"*"}, "i", []string{}},
			[]string{"operator"},
			authn.Scope{Teams: []string{"t-a", "t-b"}, Issuers: []string{}, Profiles: []string{}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config := i.config()
			if c.edit != nil {
				c.edit(&config)
			}
			p := accepted(t, i.verifier(config), sign(t, k.private, jose.ES256, "one", i.claimed(c.claims...)))
			if !slices.Equal(p.Roles, c.roles) {
				t.Errorf("roles %q, want %q", p.Roles, c.roles)
			}
			if diff := cmp.Diff(c.scope, p.Scope); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSubject_BecomesAnIDThatNoOtherSubjectHas(t *testing.T) {
	for subject, want := range map[string]string{
		"ada":                    "user-ada",
		"auth0|5f3c":             "user-auth0|5f3c",
		"ada@example.org":        "user-ada@example.org",
		"ada\r\nce-actor: x":     "user-sha256-",
		"Ada Lovelace":           "user-sha256-",
		strings.Repeat("a", 129): "user-sha256-",
		"sha256-00":              "user-sha256-",
	} {
		got := principalID(subject)
		if !strings.HasPrefix(got, want) || want != "user-sha256-" && got != want || got == "user-"+subject && want == "user-sha256-" {
			t.Errorf("%q is %q", subject, got)
		}
	}
}

func TestKeys_AreReadAgainWhenOneIsNamedThatIsNotKnown(t *testing.T) {
	one, two := newKey(t, "one", jose.ES256), newKey(t, "two", jose.ES256)
	i := newIssuer(t, one.public)
	v := i.verifier(i.config())
	byOne := func() string { return sign(t, one.private, jose.ES256, "one", i.claimed()) }
	byTwo := func() string { return sign(t, two.private, jose.ES256, "two", i.claimed()) }
	accepted(t, v, byOne())
	i.publish(two.public, one.public)
	// However many tokens name what is not known, the issuer is asked once in a while.
	for range 20 {
		refusedAs(t, fault.Unauthenticated, v, byTwo())
	}
	if n := i.readings(); n != 1 {
		t.Errorf("the keys were read %d times", n)
	}
	i.clock.Advance(pause)
	accepted(t, v, byTwo())
	accepted(t, v, byOne())
	// A key that was withdrawn is good until the keys are read again.
	i.publish(two.public)
	accepted(t, v, byOne())
	i.clock.Advance(freshFor)
	accepted(t, v, byTwo())
	refusedAs(t, fault.Unauthenticated, v, byOne())
}

func TestKeys_AreUsedOnWhileTheIssuerIsAwayButNotForEver(t *testing.T) {
	k := newKey(t, "one", jose.ES256)
	i := newIssuer(t, k.public)
	v := i.verifier(i.config())
	token := func() string { return sign(t, k.private, jose.ES256, "one", i.claimed()) }
	i.fail(true)
	refusedAs(t, fault.Unavailable, v, token())
	i.fail(false)
	i.clock.Advance(pause)
	accepted(t, v, token())
	i.fail(true)
	i.clock.Advance(goodFor - time.Minute)
	accepted(t, v, token())
	i.clock.Advance(time.Minute)
	refusedAs(t, fault.Unavailable, v, token())
	i.fail(false)
	i.clock.Advance(pause)
	accepted(t, v, token())
}

func TestKeys_ThatSignNothingHereArePassedOver(t *testing.T) {
	good, other := newKey(t, "one", jose.ES256), newKey(t, "one", jose.ES256)
	other.public.Use = "enc"
	i := newIssuer(t, good.public)
	i.set = map[string]any{"keys": []any{
		map[string]any{"kty": "unheard-of", "kid": "one"},
		map[string]any{"kty": "oct", "kid": "one", "k": base64.RawURLEncoding.EncodeToString([]byte(secret))},
		other.public, good.public,
	}}
	v := i.verifier(i.config())
	accepted(t, v, sign(t, good.private, jose.ES256, "one", i.claimed()))
	// A token that names no key is tried with each that fits.
	accepted(t, v, sign(t, good.private, jose.ES256, "", i.claimed()))
	refusedAs(t, fault.Unauthenticated, v, sign(t, other.private, jose.ES256, "one", i.claimed()))
	refusedAs(t, fault.Unauthenticated, v, sign(t, []byte(secret), jose.HS256, "one", i.claimed()))
	for _, set := range []any{map[string]any{"keys": []any{}}, "nonsense", nil} {
		i := newIssuer(t)
		i.set = set
		refusedAs(t, fault.Unavailable, i.verifier(i.config()), sign(t, good.private, jose.ES256, "one", i.claimed()))
	}
}

func TestKeys_MayBeInAFile(t *testing.T) {
	k := newKey(t, "one", jose.ES256)
	i := newIssuer(t)
	text, err := k.public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, []byte(`{"keys":[`+string(text)+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := i.config()
	c.JwksURL = "file://" + file
	accepted(t, i.verifier(c), sign(t, k.private, jose.ES256, "one", i.claimed()))
}

func TestConfig_SaysWhatHasToBeSet(t *testing.T) {
	good := Config{JwksURL: "https://login.example.org/keys", Issuer: iss, Audience: aud}
	cases := []struct {
		name, secret, want string
		edit               func(*Config)
	}{
		{"keys", "", "", func(*Config) {}},
		{"a secret", secret, "", func(c *Config) { c.JwksURL = "" }},
		{"keys of this machine", "", "", func(c *Config) { c.JwksURL = "http://127.0.0.1:9/keys" }},
		{"keys in a file", "", "", func(c *Config) { c.JwksURL = "file:///etc/keys.json" }},
		{"neither", "", "CERTCTL_JWT_JWKS_URL", func(c *Config) { c.JwksURL = "" }},
		{"both", secret, "both set", func(*Config) {}},
		{"a short secret", secret[:31], "at least 32", func(c *Config) { c.JwksURL = "" }},
		{"keys that anybody may change", "", "http://login.example.org", func(c *Config) { c.JwksURL = "http://login.example.org/keys" }},
		{"no URL", "", "CERTCTL_JWT_JWKS_URL", func(c *Config) { c.JwksURL = ":" }},
		{"no issuer", "", "CERTCTL_JWT_ISSUER", func(c *Config) { c.Issuer = "" }},
		{"no audience", "", "CERTCTL_JWT_AUDIENCE", func(c *Config) { c.Audience = "" }},
		{"a role that is none", "", "is no role", func(c *Config) { c.RoleMapping = map[string]string{"x": "root"} }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config := good
			c.edit(&config)
			err := config.Validate(c.secret)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("it says %v, want %q", err, c.want)
			}
			if err != nil && c.secret != "" && strings.Contains(err.Error(), c.secret) {
				t.Error("it shows the secret")
			}
		})
	}
}

// FuzzRecognise_RefusesWhateverItsIssuerHasNotSigned must neither panic nor accept.
func FuzzRecognise_RefusesWhateverItsIssuerHasNotSigned(f *testing.F) {
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.")
	f.Add("eyJhbGciOiJIUzI1NiJ9.e30.AAAA")
	f.Add("..")
	v, err := New(Config{Issuer: iss, Audience: aud, RolesClaim: "roles"}, secret, clock.System, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if p, err := v.Recognise(t.Context(), token); fault.CodeOf(err) != fault.Unauthenticated {
			t.Errorf("%q: %+v, %v", token, p, err)
		}
	})
}
