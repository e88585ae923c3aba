package gateway_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/services/gateway"
	"github.com/certctl/certctl/services/gateway/internal/identity"
)

const sharedSecret = "a secret of more than thirty-two bytes"

// token is a JSON web token for certctl, signed with a key.
func token(t *testing.T, algorithm jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"iss": "https://login.example.org", "aud": "certctl", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	signed, err := signer.Sign([]byte(toJSON(t, all)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func byTokens() gateway.Config {
	cfg := gateway.Config{ServerHost: "127.0.0.1", AuthType: "jwt", AuthSecret: sharedSecret}
	cfg.JWT.Issuer, cfg.JWT.Audience, cfg.JWT.RolesClaim, cfg.JWT.TeamsClaim = "https://login.example.org", "certctl", "roles", "teams"
	return cfg
}

func (w *world) status(credential, path string) int {
	w.Helper()
	res, _ := w.as(credential, http.MethodGet, path, nil)
	return res.StatusCode
}

func TestGateway_RecognisesTokensBesideKeys(t *testing.T) {
	w := newWorld(t)
	w.own("issuer", echo)
	g := w.another(byTokens())
	ada := token(t, jose.HS256, []byte(sharedSecret), map[string]any{"name": "Ada", "roles": "viewer auditor", "teams": []string{"t-a"}})
	_, check := g.as(ada, http.MethodGet, "/api/v1/auth/check", nil)
	want := map[string]any{
		"status": "authenticated", "principal": "Ada", "principal_id": "user-ada", "roles": []any{"auditor", "viewer"},
		"scope": map[string]any{"teams": []any{"t-a"}},
	}
	if diff := cmp.Diff(want, check); diff != "" {
		t.Error(diff)
	}
	res, asked := g.as(ada, http.MethodGet, "/api/v1/certificates", nil)
	if asked["as"] != "user-ada" || asked["secrets"] != "" {
		t.Errorf("the owner was asked as %v", asked)
	}
	if c := w.recorded(res.Header.Get("X-Request-ID")); c.Actor != "user-ada" || c.Status != http.StatusAccepted {
		t.Errorf("on record: %+v", c)
	}
	for name, c := range map[string]struct {
		credential string
		status     int
	}{
		"what its roles do not hold":        {ada, http.StatusForbidden},
		"the secret that tokens are signed": {sharedSecret, http.StatusUnauthorized},
		"another's signature":               {token(t, jose.HS256, []byte(sharedSecret+"x"), nil), http.StatusUnauthorized},
		"an expired token":                  {token(t, jose.HS256, []byte(sharedSecret), map[string]any{"exp": 1, "roles": "admin"}), http.StatusUnauthorized},
		"a token for another service":       {token(t, jose.HS256, []byte(sharedSecret), map[string]any{"aud": "x", "roles": "admin"}), http.StatusUnauthorized},
		"a key":                             {w.key, http.StatusOK},
		"an admin's token":                  {token(t, jose.HS256, []byte(sharedSecret), map[string]any{"roles": "admin", "teams": "*"}), http.StatusOK},
	} {
		if got := g.status(c.credential, "/api/v1/api-keys"); got != c.status {
			t.Errorf("%s: %d, want %d", name, got, c.status)
		}
	}
	// The gateway beside it takes keys only.
	if got := w.status(ada, "/api/v1/auth/check"); got != http.StatusUnauthorized {
		t.Errorf("where tokens are not configured: %d", got)
	}
	if _, info := g.as("", http.MethodGet, "/api/v1/auth/info", nil); info["auth_type"] != "jwt" || info["required"] != true {
		t.Errorf("it says %v", info)
	}
}

func TestGateway_ChecksTokensByTheKeysThatTheirIssuerPublishes(t *testing.T) {
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	published := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(out).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
	}))
	defer published.Close()
	cfg := byTokens()
	cfg.AuthSecret, cfg.JWT.JwksURL = "", published.URL
	g := w.another(cfg)
	if got := g.status(token(t, jose.ES256, key, map[string]any{"roles": "viewer"}), "/api/v1/auth/check"); got != http.StatusOK {
		t.Errorf("a good token: %d", got)
	}
	if got := g.status(token(t, jose.HS256, []byte(sharedSecret), nil), "/api/v1/auth/check"); got != http.StatusUnauthorized {
		t.Errorf("one that a secret has signed: %d", got)
	}
	cfg.JWT.JwksURL = "http://127.0.0.1:1/"
	away := w.another(cfg)
	res, got := away.as(token(t, jose.ES256, key, nil), http.MethodGet, "/api/v1/auth/check", nil)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("without the issuer: %d %v", res.StatusCode, got)
	}
	if got := away.status(w.key, "/api/v1/auth/check"); got != http.StatusOK {
		t.Errorf("a key without the issuer: %d", got)
	}
}

func TestGateway_TakesTheConfiguredSecretForAnAdminsKey(t *testing.T) {
	w := newWorld(t)
	cfg := byKeys()
	cfg.AuthSecret = sharedSecret
	g := w.another(cfg)
	_, check := g.as(sharedSecret, http.MethodGet, "/api/v1/auth/check", nil)
	if check["principal"] != "configured" || check["principal_id"] != "key-configured" || !cmp.Equal(check["roles"], []any{"admin"}) {
		t.Errorf("it is %v", check)
	}
	for credential, want := range map[string]int{sharedSecret: 200, w.key: 200, sharedSecret + "x": 401, sharedSecret[1:]: 401} {
		if got := g.status(credential, "/api/v1/api-keys"); got != want {
			t.Errorf("%q: %d, want %d", credential, got, want)
		}
	}
	var stored int
	if err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM api_keys`).Scan(&stored); err != nil || stored != 1 {
		t.Errorf("%d keys are stored, %v", stored, err)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer // under mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestGateway_WithoutAuthenticationSaysSoLoudly(t *testing.T) {
	w := newWorld(t)
	w.own("issuer", echo)
	var log lines
	w.log = slog.New(slog.NewTextHandler(&log, nil))
	g := w.another(gateway.Config{ServerHost: "127.0.0.1", AuthType: "none", AuthNoneAcknowledged: "yes"})
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), identity.Warning) {
		t.Errorf("the log says %s", log.String())
	}
	res, asked := g.as("", http.MethodPost, "/api/v1/certificates", map[string]any{"common_name": "a.test"})
	if asked["as"] != "anonymous-admin" || res.Header.Get("Certctl-Warning") != identity.Warning {
		t.Errorf("asked %v, %v", asked, res.Header)
	}
	if c := w.recorded(res.Header.Get("X-Request-ID")); c.Actor != "anonymous-admin" {
		t.Errorf("on record: %+v", c)
	}
	if _, asked := g.as(w.key, http.MethodPost, "/api/v1/certificates", map[string]any{"common_name": "a.test"}); asked["as"] != "key-first-admin" {
		t.Errorf("with a key: %v", asked)
	}
	if _, info := g.as("", http.MethodGet, "/api/v1/auth/info", nil); info["auth_type"] != "none" || info["required"] != false {
		t.Errorf("it says %v", info)
	}
	// What another site makes a browser do is refused, and on record.
	r := g.request(http.MethodPost, "/api/v1/certificates", `{"common_name":"a.test"}`)
	r.Header.Set("Origin", "https://evil.example")
	res, body := g.do(r)
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if c := w.recorded(res.Header.Get("X-Request-ID")); c.Status != http.StatusForbidden {
		t.Errorf("on record: %+v", c)
	}
	// Where it is asked who calls, nothing of this is said.
	if res, _ := w.get("/api/v1/auth/check"); res.Header.Get("Certctl-Warning") != "" {
		t.Error("the other gateway warns too")
	}
}

func TestConfig_OfTokensIsReadFromTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(sharedSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AUTH_TYPE": "jwt", "AUTH_SECRET_FILE": file, "JWT_ISSUER": "https://login.example.org", "JWT_AUDIENCE": "certctl",
		"JWT_ROLE_MAPPING": "pki-admins:admin,pki-ops:operator", "JWT_TEAMS_CLAIM": "teams",
	} {
		t.Setenv("CERTCTL_"+name, value)
	}
	var cfg gateway.Config
	if err := config.Load("CERTCTL", &cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.AuthSecret != sharedSecret || cfg.JWT.RoleMapping["pki-ops"] != "operator" || cfg.JWT.RolesClaim != "roles" || cfg.JWT.TeamsClaim != "teams" {
		t.Errorf("it is %+v", cfg)
	}
	t.Setenv("CERTCTL_JWT_JWKS_URL", "https://login.example.org/keys")
	if err := config.Load("CERTCTL", &cfg); err == nil || !strings.Contains(err.Error(), "set one") {
		t.Errorf("both at once: %v", err)
	}
}
