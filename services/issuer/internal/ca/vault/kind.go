package vault

import (
	"context"
	"net/url"
	"strings"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/setting"
)

// The settings of a Vault, by their names in an issuer's config.
const (
	SettingURL       = "url"
	SettingNamespace = "namespace"
	SettingMount     = "mount"
	SettingRole      = "role"
	SettingToken     = "token"
	SettingRoleID    = "role_id"
	SettingSecretID  = "secret_id"
	SettingAuthMount = "auth_mount"
	SettingTrust     = "tls_ca_pem"
)

const notAURL = "must be of the form https://host:port"

// Kind opens PKI secrets engines. It implements [registry.Keeper].
type Kind struct {
	Clock clock.Clock
}

func read(config map[string]any) (Config, error) {
	r := setting.Of(registry.TypeVault, config)
	c := Config{
		URL: r.Required(SettingURL), Namespace: r.Text(SettingNamespace), Mount: path(r, SettingMount, "pki"), Role: r.Required(SettingRole),
		Token: r.Text(SettingToken), RoleID: r.Text(SettingRoleID), SecretID: r.Text(SettingSecretID), AuthMount: path(r, SettingAuthMount, "approle"),
		Lifetime: r.Lifetime(),
	}
	if base, err := url.Parse(c.URL); c.URL != "" && (err != nil || base.Scheme != "https" || base.Host == "" || base.User != nil || base.RawQuery != "") {
		r.Bad(SettingURL, notAURL)
	}
	if strings.ContainsAny(c.Role, unsafe+"/") {
		r.Bad(SettingRole, "is not the name of a role")
	}
	if strings.ContainsFunc(c.Namespace, func(c rune) bool { return c < ' ' || c > '~' }) {
		r.Bad(SettingNamespace, "is not a namespace")
	}
	switch {
	case c.Token != "" && (c.RoleID != "" || c.SecretID != ""):
		r.Bad(SettingToken, "give either a token or an AppRole, "+SettingRoleID+" and "+SettingSecretID)
	case c.Token == "" && (c.RoleID == "" || c.SecretID == ""):
		r.Bad(SettingToken, "is required, or an AppRole: "+SettingRoleID+" and "+SettingSecretID)
	}
	if text := r.Text(SettingTrust); text != "" {
		var err error
		if c.Roots, err = x509x.ParseCertificates([]byte(text)); err != nil {
			r.Bad(SettingTrust, "is no certificate: "+err.Error())
		}
	}
	return c, r.Err()
}

// unsafe would lead a path of the API elsewhere.
const unsafe = "%?#\\ \t\r\n"

func path(r *setting.Reader, name, usual string) string {
	p := strings.Trim(r.Text(name), "/")
	if p == "" {
		return usual
	}
	if strings.ContainsAny(p, unsafe) || strings.Contains("/"+p+"/", "/../") {
		r.Bad(name, "is not the path of a mount")
	}
	return p
}

// Secrets implements [registry.Keeper].
func (k *Kind) Secrets() []string { return []string{SettingToken, SettingSecretID} }

// Make implements [registry.Kind]. It asks nobody; the server may be away while an issuer is set up.
func (k *Kind) Make(i registry.Issuer, config map[string]any) (registry.Made, error) {
	config, err := k.Amend(i, config)
	return registry.Made{Config: config}, err
}

// Amend implements [registry.Kind]. Whoever sends the secrets elsewhere has to know them: else it would be a way to be
// shown what is hidden.
func (k *Kind) Amend(i registry.Issuer, update map[string]any) (map[string]any, error) {
	config := setting.Merge(i.Config, update)
	if _, err := read(config); err != nil {
		return nil, err
	}
	for _, where := range []string{SettingURL, SettingTrust} {
		if i.Config == nil || i.Config[where] == config[where] {
			continue
		}
		for _, hidden := range k.Secrets() {
			if _, given := update[hidden]; config[hidden] != nil && !given {
				return nil, fault.InvalidFields(fault.Field{Name: "config." + where, Reason: "says where " + hidden + " is sent; give that anew to change it"})
			}
		}
	}
	return config, nil
}

// Open implements [registry.Kind].
func (k *Kind) Open(ctx context.Context, i registry.Issuer) (ca.Issuer, map[string]any, error) {
	c, err := read(i.Config)
	if err != nil {
		return nil, nil, err
	}
	a, err := Open(ctx, c, k.Clock)
	if err != nil {
		return nil, nil, err
	}
	return a, i.Config, nil
}
