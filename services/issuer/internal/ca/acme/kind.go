package acme

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"net/mail"
	"net/url"
	"reflect"
	"strings"
	"unicode"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/process"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/provider"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/setting"
)

// The settings of an ACME issuer, by their names in its config.
const (
	SettingDirectory = "directory_url"
	SettingEmail     = "email"
	SettingChallenge = "challenge_type"
	// SettingVia is who answers http-01: ViaListener or ViaAgent.
	SettingVia     = "http01_via"
	SettingKeyID   = "eab_kid"
	SettingMACKey  = "eab_hmac_key"
	SettingProfile = "profile"
	SettingChain   = "preferred_chain"
	// SettingRoots are what the directory's TLS certificate must lead to, in PEM; without it, the system's.
	SettingRoots = "ca_certificate_pem"
)

// Who answers http-01.
const (
	// ViaListener is this process.
	ViaListener = "listener"
	// ViaAgent is the agent of the certificate's first target.
	ViaAgent = "agent"
)

const maxText = 255

// Kind opens ACME issuers. It implements [registry.Keeper].
type Kind struct {
	Deps
	// HTTP, Hosts and DNS are what every issuer proves names with. DNS has no SetUp if the operator has named no programs: nobody
	// else can.
	HTTP  *Listener
	Hosts *Hosts
	DNS   *Hooks
	// Endpoints and AuthorityPort are where providers and name servers are, if that is not their usual place, as in tests.
	Endpoints     provider.Endpoints
	AuthorityPort string
}

func (k *Kind) read(config map[string]any) (Config, error) {
	r := setting.Of(registry.TypeACME, config)
	c := Config{
		Directory: r.Required(SettingDirectory), Email: r.Text(SettingEmail), Solver: k.HTTP,
		KeyID: r.Text(SettingKeyID), MACKey: r.Text(SettingMACKey), Profile: r.Text(SettingProfile), PreferredChain: r.Text(SettingChain),
	}
	if u, err := url.Parse(c.Directory); c.Directory != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "") {
		r.Bad(SettingDirectory, "must be of the form https://host/directory; ACME is spoken over TLS only")
	}
	if at, err := mail.ParseAddress(c.Email); c.Email != "" && (err != nil || at.Address != c.Email) {
		r.Bad(SettingEmail, "must be a mail address")
	}
	challenge := r.Text(SettingChallenge)
	switch r.Text(SettingVia) {
	case "", ViaListener:
	case ViaAgent:
		c.Solver = k.Hosts
		if challenge == DNS01 {
			r.Bad(SettingVia, "says who answers "+HTTP01+", and this issuer's challenge_type is "+DNS01)
		}
	default:
		r.Bad(SettingVia, "must be "+ViaListener+" or "+ViaAgent)
	}
	prover, resolver := k.dns01(r, config, challenge == DNS01)
	switch challenge {
	case "", HTTP01:
	case DNS01:
		c.Solver = prover
	default:
		r.Bad(SettingChallenge, "must be "+HTTP01+" or "+DNS01)
	}
	if mac, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(c.MACKey, "=")); err != nil || (c.KeyID == "") != (len(mac) == 0) {
		r.Bad(SettingMACKey, "must be a key in base64url, and belongs together with "+SettingKeyID)
	}
	for name, text := range map[string]string{SettingKeyID: c.KeyID, SettingProfile: c.Profile, SettingChain: c.PreferredChain} {
		if len(text) > maxText || strings.ContainsFunc(text, unicode.IsControl) {
			r.Bad(name, "must have at most 255 characters, none of them a control character")
		}
	}
	if pem := r.Text(SettingRoots); pem != "" {
		c.Roots = x509.NewCertPool()
		if !c.Roots.AppendCertsFromPEM([]byte(pem)) {
			r.Bad(SettingRoots, "must be certificates in PEM")
		}
	}
	c.Foresight = foresight(r, resolver)
	return c, r.Err()
}

// objection says why names cannot be proven by DNS-01.
func (h *Hooks) objection() string {
	if h.SetUp == "" {
		return DNS01 + " needs a program that sets records: the operator names it in CERTCTL_ACME_DNS_PRESENT_SCRIPT"
	}
	if reason := process.Objection(h.SetUp); reason != "" {
		return "CERTCTL_ACME_DNS_PRESENT_SCRIPT: " + reason
	}
	if reason := process.Objection(h.CleanUp); h.CleanUp != "" && reason != "" {
		return "CERTCTL_ACME_DNS_CLEANUP_SCRIPT: " + reason
	}
	return ""
}

// Secrets implements [registry.Keeper].
func (k *Kind) Secrets() []string { return append(provider.Secrets(), SettingMACKey) }

// Make implements [registry.Kind]. It asks nobody; the CA may be away while an issuer is set up.
func (k *Kind) Make(_ registry.Issuer, config map[string]any) (registry.Made, error) {
	config = setting.Merge(nil, config)
	_, err := k.read(config)
	return registry.Made{Config: config}, err
}

// Amend implements [registry.Kind].
func (k *Kind) Amend(i registry.Issuer, update map[string]any) (map[string]any, error) {
	config := setting.Merge(i.Config, update)
	if !reflect.DeepEqual(config[SettingDirectory], i.Config[SettingDirectory]) {
		return nil, fault.InvalidFields(fault.Field{
			Name:   "config." + SettingDirectory,
			Reason: "cannot be changed: an issuer keeps its CA for life, since what was issued is revoked there; set up another issuer",
		})
	}
	_, err := k.read(config)
	return config, err
}

// Open implements [registry.Kind].
func (k *Kind) Open(ctx context.Context, i registry.Issuer) (ca.Issuer, map[string]any, error) {
	if k.Sealer == nil {
		return nil, nil, fault.New(fault.Unavailable, "an ACME issuer needs a sealing key for its account; set CERTCTL_SEALING_KEY_FILE")
	}
	c, err := k.read(i.Config)
	if err != nil {
		return nil, nil, err
	}
	c.IssuerID = i.ID
	if i.CAChainPEM != "" {
		if c.Chain, err = x509x.ParseCertificates([]byte(i.CAChainPEM)); err != nil {
			return nil, nil, err
		}
	}
	a, err := Open(ctx, c, k.Deps)
	if err != nil {
		return nil, nil, err
	}
	return a, i.Config, nil
}
