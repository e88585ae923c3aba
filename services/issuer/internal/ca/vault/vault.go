// Package vault issues certificates by the PKI secrets engine of a HashiCorp Vault or an OpenBao, whose API is the same.
//
// A role of the engine says what may be issued; requests are signed at <mount>/sign/<role> with the names of the record
// in the parameters. Who asks proves it by a token or by an AppRole, whose tokens are fetched and fetched anew when they
// are no more accepted. What comes back is held against what was asked for.
//
// How a certificate looks beyond its names and key is the role's: key usage, back-dating, whether a subject is needed
// (docs/how-to/issuers.md has a role to begin with). The server publishes its own revocation list.
package vault

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// Config says which engine, which role, and who asks.
type Config struct {
	// URL is the server's, such as https://vault.example.org:8200.
	URL string
	// Namespace is empty for the root namespace.
	Namespace string
	// Mount is where the engine is mounted, Role which of its roles signs.
	Mount, Role string
	// Token is given, or else RoleID and SecretID of an AppRole at AuthMount.
	Token                       string
	AuthMount, RoleID, SecretID string
	// Roots verify the server's TLS certificate; nil are those of the machine.
	Roots []*x509.Certificate
	// Lifetime is the most that is asked for; zero leaves it to the request, and then to the role.
	Lifetime time.Duration
}

// Authority is an engine. It is safe for concurrent use.
type Authority struct {
	api    *api
	config Config
	clock  clock.Clock
	token  atomic.Pointer[string]
	chain  []*x509.Certificate
}

// Open connects to the server, proves who asks, checks that they may have requests signed, and reads the engine's CA. Its
// error says which of these failed: Invalid if the configuration is wrong, Unavailable if the server cannot be reached.
func Open(ctx context.Context, cfg Config, c clock.Clock) (*Authority, error) {
	base, err := url.Parse(strings.TrimSuffix(cfg.URL, "/"))
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fault.InvalidFields(fault.Field{Name: SettingURL, Reason: notAURL})
	}
	a := &Authority{api: newAPI(base, cfg.Namespace, cfg.Roots), config: cfg, clock: c}
	if err := a.open(ctx); err != nil {
		a.api.client.CloseIdleConnections()
		return nil, err
	}
	return a, nil
}

func (a *Authority) open(ctx context.Context) error {
	if a.config.Token != "" {
		a.token.Store(&a.config.Token)
	} else if err := a.login(ctx); err != nil {
		return err
	}
	if err := a.mayAsk(ctx); err != nil {
		return err
	}
	return a.readChain(ctx)
}

// login fetches a token for the AppRole.
func (a *Authority) login(ctx context.Context) error {
	var answer struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	err := a.api.call(ctx, http.MethodPost, "auth/"+a.config.AuthMount+"/login", "",
		map[string]any{"role_id": a.config.RoleID, "secret_id": a.config.SecretID}, &answer)
	if answered(err, http.StatusBadRequest, http.StatusForbidden) {
		return fault.Wrap(err, fault.Unavailable, "%s and %s are not accepted: %s", SettingRoleID, SettingSecretID, fault.From(err).Message)
	}
	if err != nil {
		return err
	}
	if answer.Auth.Token == "" {
		return fault.New(fault.Unavailable, "Vault at %s gave no token for the AppRole", a.api.base.Host)
	}
	a.token.Store(&answer.Auth.Token)
	return nil
}

func (a *Authority) signing() string { return a.config.Mount + "/sign/" + a.config.Role }

// mayAsk asks the server whether the token is good for what it is used for, which signs nothing.
func (a *Authority) mayAsk(ctx context.Context) error {
	var answer struct {
		Data map[string]any `json:"data"`
	}
	path := a.signing()
	err := a.api.call(ctx, http.MethodPost, "sys/capabilities-self", *a.token.Load(), map[string]any{"paths": []string{path}}, &answer)
	if answered(err, http.StatusForbidden) {
		return fault.InvalidFields(fault.Field{Name: SettingToken, Reason: "is not accepted, or has run out"})
	}
	if err != nil {
		return err
	}
	may, _ := answer.Data[path].([]any)
	if !slices.ContainsFunc(may, func(c any) bool { return c == "update" || c == "create" || c == "root" }) {
		return fault.InvalidFields(fault.Field{Name: SettingRole, Reason: "no policy of the token lets it update " + path})
	}
	return nil
}

// readChain reads the engine's CA, and those above it as far as the engine knows them.
func (a *Authority) readChain(ctx context.Context) error {
	var answer struct {
		Data struct {
			Certificate string   `json:"certificate"`
			Chain       []string `json:"ca_chain"`
		} `json:"data"`
	}
	err := a.api.call(ctx, http.MethodGet, a.config.Mount+"/issuer/default/json", "", nil, &answer)
	if answered(err, http.StatusNotFound, http.StatusForbidden) {
		return fault.InvalidFields(fault.Field{Name: SettingMount, Reason: "there is no PKI secrets engine at " + a.config.Mount})
	}
	if err != nil {
		return err
	}
	if len(answer.Data.Chain) == 0 {
		answer.Data.Chain = []string{answer.Data.Certificate}
	}
	if a.chain, err = x509x.ParseCertificates([]byte(strings.Join(answer.Data.Chain, "\n"))); err != nil {
		return fault.Wrap(err, fault.Unavailable, "the certificates of the CA at %s cannot be read", a.config.Mount)
	}
	return nil
}

// Chain implements [ca.Issuer].
func (a *Authority) Chain() []*x509.Certificate { return a.chain }

// asked calls with the token, and once more with a new one if the AppRole's has run out.
func (a *Authority) asked(ctx context.Context, path string, body, v any) error {
	token := a.token.Load()
	err := a.api.call(ctx, http.MethodPost, path, *token, body, v)
	if a.config.Token != "" || !answered(err, http.StatusForbidden) {
		return err
	}
	if a.token.Load() == token {
		if err := a.login(ctx); err != nil {
			return err
		}
	}
	return a.api.call(ctx, http.MethodPost, path, *a.token.Load(), body, v)
}

func answered(err error, statuses ...int) bool {
	refused, ok := errors.AsType[*refusal](err)
	return ok && slices.Contains(statuses, refused.status)
}

// maxSubject is X.520's upper bound of a common name.
const maxSubject = 64

// Issue implements [ca.Issuer].
func (a *Authority) Issue(ctx context.Context, r ca.Request) (ca.Issued, error) {
	var answer struct {
		Data struct {
			Certificate string   `json:"certificate"`
			IssuingCA   string   `json:"issuing_ca"`
			Chain       []string `json:"ca_chain"`
		} `json:"data"`
	}
	if err := a.asked(ctx, a.signing(), parameters(r.Within(a.config.Lifetime)), &answer); err != nil {
		return ca.Issued{}, err
	}
	above := answer.Data.Chain
	if len(above) == 0 {
		above = []string{answer.Data.IssuingCA}
	}
	chain := strings.Join(append([]string{answer.Data.Certificate}, above...), "\n")
	return ca.Accept(r, []byte(chain), a.chain[len(a.chain)-1:], a.clock.Now())
}

// parameters are a request as the engine takes it.
func parameters(r ca.Request) map[string]any {
	var hosts, addresses, uris []string
	for _, n := range r.Names {
		switch n.Kind {
		case x509x.IP:
			addresses = append(addresses, n.Value)
		case x509x.URI:
			uris = append(uris, n.Value)
		default:
			hosts = append(hosts, n.Value)
		}
	}
	p := map[string]any{
		"csr":    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR.Raw})),
		"format": "pem",
		// The names are exactly these.
		"exclude_cn_from_sans": true,
		"alt_names":            strings.Join(hosts, ","),
		"ip_sans":              strings.Join(addresses, ","),
		"uri_sans":             strings.Join(uris, ","),
	}
	if len(r.CommonName) <= maxSubject {
		p["common_name"] = r.CommonName
	}
	if r.Lifetime > 0 {
		p["ttl"] = fmt.Sprintf("%ds", int64(r.Lifetime/time.Second))
	}
	return p
}

// Revoke implements [ca.Revoker]. The engine takes no reason, and takes a repetition for done.
func (a *Authority) Revoke(ctx context.Context, r ca.Revocation) error {
	return a.asked(ctx, a.config.Mount+"/revoke", map[string]any{"serial_number": colons(r.Serial)}, nil)
}

// colons writes a serial number as the engine does: 0a:bc.
func colons(serial *big.Int) string {
	parts := make([]string, 0, 20)
	for _, b := range serial.Bytes() {
		parts = append(parts, fmt.Sprintf("%02x", b))
	}
	return strings.Join(parts, ":")
}
