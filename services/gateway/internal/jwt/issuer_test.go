package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	iss    = "https://login.example.org"
	aud    = "certctl"
	secret = "a secret that is shared, of 32 bytes and more"
)

// issuer signs tokens and publishes its keys on a server of its own.
type issuer struct {
	t      *testing.T
	server *httptest.Server
	clock  *clock.Manual

	mu    sync.Mutex
	set   any // under mu: what is published
	down  bool
	asked int // under mu
}

func newIssuer(t *testing.T, published ...jose.JSONWebKey) *issuer {
	i := &issuer{t: t, clock: clock.At(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))}
	i.publish(published...)
	i.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.asked++
		if i.down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(i.set)
	}))
	t.Cleanup(i.server.Close)
	return i
}

func (i *issuer) publish(keys ...jose.JSONWebKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.set = jose.JSONWebKeySet{Keys: keys}
}

func (i *issuer) fail(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

func (i *issuer) readings() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func (i *issuer) config() Config {
	return Config{JwksURL: i.server.URL + "/keys", Issuer: iss, Audience: aud, RolesClaim: "roles"}
}

// verifier checks tokens by the keys of the issuer.
func (i *issuer) verifier(c Config) *Verifier {
	i.t.Helper()
	if err := c.Validate(""); err != nil {
		i.t.Fatal(err)
	}
	v, err := New(c, "", i.clock, slog.New(slog.DiscardHandler))
	if err != nil {
		i.t.Fatal(err)
	}
	return v
}

// claimed are good claims, changed by the pairs that follow; nil takes one away.
func (i *issuer) claimed(pairs ...any) map[string]any {
	now := i.clock.Now()
	c := map[string]any{
		"iss": iss, "aud": []string{"other", aud}, "sub": "ada", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "roles": []string{"operator"},
	}
	for n := 0; n+1 < len(pairs); n += 2 {
		name, _ := pairs[n].(string)
		if c[name] = pairs[n+1]; pairs[n+1] == nil {
			delete(c, name)
		}
	}
	return c
}

// key is a key that signs and its public part, as it is published.
type key struct {
	private any
	public  jose.JSONWebKey
}

func newKey(t *testing.T, kid string, algorithm jose.SignatureAlgorithm) key {
	t.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key{private, jose.JSONWebKey{Key: private.Public(), KeyID: kid, Algorithm: string(algorithm), Use: "sig"}}
}

// sign makes a token.
func sign(t *testing.T, with any, algorithm jose.SignatureAlgorithm, kid string, claims map[string]any, header ...string) string {
	t.Helper()
	o := &jose.SignerOptions{}
	if kid != "" {
		o = o.WithHeader("kid", kid)
	}
	for n := 0; n+1 < len(header); n += 2 {
		o = o.WithHeader(jose.HeaderKey(header[n]), header[n+1])
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: with}, o)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func accepted(t *testing.T, v *Verifier, token string) authn.Principal {
	t.Helper()
	if !v.Mine(token) {
		t.Fatalf("%.40s… is not taken for a token", token)
	}
	p, err := v.Recognise(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func refusedAs(t *testing.T, code fault.Code, v *Verifier, token string) {
	t.Helper()
	if p, err := v.Recognise(t.Context(), token); fault.CodeOf(err) != code {
		t.Errorf("got %+v, %v; want %s", p, err, code)
	}
}
