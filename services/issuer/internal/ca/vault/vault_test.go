package vault_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/vault"
	"github.com/certctl/certctl/services/issuer/internal/ca/vault/vaultfake"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

func start(t *testing.T) *vaultfake.Server {
	t.Helper()
	s, err := vaultfake.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func config(s *vaultfake.Server) map[string]any {
	return map[string]any{
		"url": s.URL, "namespace": vaultfake.Namespace, "mount": vaultfake.Mount, "role": vaultfake.RoleName,
		"token": vaultfake.Token, "tls_ca_pem": s.Trust(),
	}
}

// byAppRole is the config of who proves itself by an AppRole.
func byAppRole(s *vaultfake.Server) map[string]any {
	c := config(s)
	delete(c, "token")
	c["role_id"], c["secret_id"] = vaultfake.RoleID, vaultfake.SecretID
	return c
}

func open(t *testing.T, c map[string]any) ca.Issuer {
	t.Helper()
	k := &vault.Kind{Clock: clock.System}
	a, _, err := k.Open(t.Context(), registry.Issuer{ID: "iss-vault", Type: registry.TypeVault, Config: c})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func request(t *testing.T, name string) ca.Request {
	t.Helper()
	return catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), name)
}

func TestVault_ConformsAgainstAFake(t *testing.T) {
	catest.Conforms(t, "Vault, OpenBao", "a fake that speaks its protocol", open(t, config(start(t))))
}

func TestVault_TakesNamesFromTheRequestIfTheRoleSaysSo(t *testing.T) {
	s := start(t)
	s.SetRole(func(r *vaultfake.Role) { r.UseCSRCommonName, r.UseCSRSANs, r.RequireCN = true, true, true })
	r := catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com", "example.com", "192.0.2.7")
	if _, err := open(t, config(s)).Issue(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func TestVault_AnAppRoleLogsInAgainWhenItsTokenHasRunOut(t *testing.T) {
	s := start(t)
	a := open(t, byAppRole(s))
	for want := 1; want <= 2; want++ {
		for range 2 {
			if _, err := a.Issue(t.Context(), request(t, "www.example.com")); err != nil {
				t.Fatal(err)
			}
		}
		if s.Logins() != want {
			t.Errorf("%d logins, want %d", s.Logins(), want)
		}
		s.Expire()
	}
}

func TestVault_GrantsTheShorterOfWhatIsAskedForAndWhatIsConfigured(t *testing.T) {
	s := start(t)
	c := config(s)
	c["validity_days"] = 10.0
	a := open(t, c)
	for name, tt := range map[string]struct{ asked, want time.Duration }{
		"nothing is asked for": {0, 240 * time.Hour},
		"less":                 {48 * time.Hour, 48 * time.Hour},
		"more":                 {1000 * time.Hour, 240 * time.Hour},
	} {
		r := request(t, "www.example.com")
		r.Lifetime = tt.asked
		issued, err := a.Issue(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(issued.NotAfter); left > tt.want || left < tt.want-time.Hour {
			t.Errorf("%s: %s are left", name, left)
		}
	}
}

func TestVault_RevokesByTheSerialNumberAndBearsARepetition(t *testing.T) {
	s := start(t)
	a := open(t, config(s))
	issued, err := a.Issue(t.Context(), request(t, "www.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.(ca.Revoker).Revoke(t.Context(), ca.Revocation{Serial: issued.Serial, Leaf: issued.DER, Reason: 4}); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Revoked(issued.Serial) {
		t.Error("it is not revoked there")
	}
	err = a.(ca.Revoker).Revoke(t.Context(), ca.Revocation{Serial: x509x.NewSerial()})
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "not found") {
		t.Errorf("one that is not its own: %v", err)
	}
}

func TestVault_SaysWhatIsWrongWithItsConfiguration(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*vaultfake.Server, map[string]any)
		says   string
	}{
		"a token that is none":   {func(_ *vaultfake.Server, c map[string]any) { c["token"] = "hvs.wrong" }, "token: is not accepted"},
		"a token that may not":   {func(s *vaultfake.Server, _ map[string]any) { s.Deny() }, "no policy of the token lets it update pki/web/sign/web"},
		"a role that is none":    {func(_ *vaultfake.Server, c map[string]any) { c["role"] = "mail" }, "pki/web/sign/mail"},
		"another mount":          {func(_ *vaultfake.Server, c map[string]any) { c["mount"] = "kv" }, "kv/sign/web"},
		"another namespace":      {func(_ *vaultfake.Server, c map[string]any) { c["namespace"] = "team-b" }, "no handler for route"},
		"a server of a stranger": {func(_ *vaultfake.Server, c map[string]any) { delete(c, "tls_ca_pem") }, "unknown authority; tls_ca_pem says what to trust"},
		"nobody answers":         {func(_ *vaultfake.Server, c map[string]any) { c["url"] = "https://127.0.0.1:1" }, "cannot be reached: connection refused"},
		"it is sealed":           {func(s *vaultfake.Server, _ map[string]any) { s.Seal(true) }, "Vault is sealed"},
		"a wrong AppRole": {func(_ *vaultfake.Server, c map[string]any) {
			delete(c, "token")
			c["role_id"], c["secret_id"] = "nobody", "nothing-secret"
		}, "invalid role or secret ID"},
		"plain HTTP":           {func(_ *vaultfake.Server, c map[string]any) { c["url"] = "http://vault" }, "https"},
		"two ways to prove it": {func(_ *vaultfake.Server, c map[string]any) { c["role_id"] = "r" }, "either"},
		"a path out of it":     {func(_ *vaultfake.Server, c map[string]any) { c["mount"] = "pki/../sys" }, "mount"},
		"a role with a path":   {func(_ *vaultfake.Server, c map[string]any) { c["role"] = "web/../x" }, "role"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			c := config(s)
			tt.change(s, c)
			_, _, err := (&vault.Kind{Clock: clock.System}).Open(t.Context(), registry.Issuer{Config: c})
			if err == nil || !strings.Contains(err.Error(), tt.says) && !strings.Contains(fault.From(err).Message, tt.says) {
				t.Errorf("got %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "hvs.") || strings.Contains(err.Error(), "nothing-secret")) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestVault_ErrorsSayWhetherTheyPass(t *testing.T) {
	for name, tt := range map[string]struct {
		meddle func(http.ResponseWriter, string) bool
		code   fault.Code
		says   string
		after  time.Duration
	}{
		"it is sealed": {func(w http.ResponseWriter, _ string) bool {
			vaultfake.Refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
			return true
		}, fault.Unavailable, "Vault is sealed", 0},
		"a quota": {func(w http.ResponseWriter, path string) bool {
			w.Header().Set("Retry-After", "7")
			vaultfake.Refuse(w, http.StatusTooManyRequests, `request path "`+path+`": rate limit quota exceeded`)
			return true
		}, fault.RateLimited, "slow down", 7 * time.Second},
		"a token that was withdrawn": {func(w http.ResponseWriter, _ string) bool {
			vaultfake.Refuse(w, http.StatusForbidden, "permission denied")
			return true
		}, fault.Unavailable, "permission denied", 0},
		"a role that was removed": {func(w http.ResponseWriter, _ string) bool {
			vaultfake.Refuse(w, http.StatusBadRequest, "unknown role: web")
			return true
		}, fault.Invalid, "unknown role", 0},
		"garbage": {func(w http.ResponseWriter, _ string) bool {
			_, _ = w.Write([]byte("<html>"))
			return true
		}, fault.Unavailable, "not JSON", 0},
		"an empty answer": {func(w http.ResponseWriter, _ string) bool {
			_, _ = w.Write([]byte(`{"data":{}}`))
			return true
		}, fault.Unavailable, "no chain", 0},
		"a redirection": {func(w http.ResponseWriter, _ string) bool {
			w.Header().Set("Location", "https://elsewhere.example.com/")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}, fault.Unavailable, "307", 0},
		"an answer that breaks off": {func(http.ResponseWriter, string) bool { panic(http.ErrAbortHandler) }, fault.Unavailable, "reached", 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			a := open(t, config(s))
			s.Meddle(tt.meddle)
			_, err := a.Issue(t.Context(), request(t, "www.example.com"))
			if fault.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) || fault.From(err).RetryAfter != tt.after {
				t.Errorf("got %v after %s", err, fault.From(err).RetryAfter)
			}
			s.Meddle(nil)
			if _, err := a.Issue(t.Context(), request(t, "www.example.com")); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestVault_RefusesForGoodWhatTheRoleDoesNotAllow(t *testing.T) {
	s := start(t)
	s.SetRole(func(r *vaultfake.Role) { r.Forbidden = "www.example.org" })
	_, err := open(t, config(s)).Issue(t.Context(), request(t, "www.example.org"))
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "not allowed by this role") {
		t.Errorf("got %v", err)
	}
}

func TestKind_SendsNoSecretWhereItsKnowerHasNotSentIt(t *testing.T) {
	s := start(t)
	k := &vault.Kind{Clock: clock.System}
	i := registry.Issuer{ID: "iss-vault", Type: registry.TypeVault, Config: config(s)}
	for name, update := range map[string]map[string]any{
		"another server":      {"url": "https://elsewhere.example.com"},
		"another trust":       {"tls_ca_pem": string(x509x.EncodePEM(s.Root.Raw))},
		"the machine's trust": {"tls_ca_pem": nil},
	} {
		if _, err := k.Amend(i, update); fault.CodeOf(err) != fault.Invalid || !strings.Contains(fault.From(err).Message, "anew") {
			t.Errorf("%s: %v", name, err)
		}
		update["token"] = vaultfake.Token
		if _, err := k.Amend(i, update); err != nil {
			t.Errorf("%s, with the token: %v", name, err)
		}
	}
	if _, err := k.Amend(i, map[string]any{"role": "mail"}); err != nil {
		t.Errorf("another role: %v", err)
	}
}
