package stepca

import (
	"context"
	"net/url"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/setting"
)

// The settings of a step-ca, by their names in an issuer's config.
const (
	SettingURL         = "url"
	SettingFingerprint = "root_fingerprint"
	SettingProvisioner = "provisioner"
	SettingKey         = "provisioner_key"
	SettingPassword    = "provisioner_password"
)

// Kind opens step-cas. It implements [registry.Keeper].
type Kind struct {
	Clock clock.Clock
}

func read(config map[string]any) (Config, error) {
	r := setting.Of(registry.TypeStepCA, config)
	c := Config{
		URL: r.Required(SettingURL), RootFingerprint: r.Text(SettingFingerprint), Provisioner: r.Required(SettingProvisioner),
		Key: []byte(r.Text(SettingKey)), Password: []byte(r.Text(SettingPassword)), Lifetime: r.Lifetime(),
	}
	// As it was given: a password may begin or end with a space.
	if password, ok := config[SettingPassword].(string); ok {
		c.Password = []byte(password)
	}
	if base, err := url.Parse(c.URL); c.URL != "" && (err != nil || base.Scheme != "https" || base.Host == "" || base.User != nil) {
		r.Bad(SettingURL, "must be of the form https://host:port")
	}
	if c.RootFingerprint != "" && normal(c.RootFingerprint) == "" {
		r.Bad(SettingFingerprint, notAFingerprint)
	}
	return c, r.Err()
}

// Secrets implements [registry.Keeper].
func (k *Kind) Secrets() []string { return []string{SettingKey, SettingPassword} }

// Make implements [registry.Kind]. It asks nobody; the CA may be away while an issuer is set up.
func (k *Kind) Make(i registry.Issuer, config map[string]any) (registry.Made, error) {
	config, err := k.Amend(i, config)
	return registry.Made{Config: config}, err
}

// Amend implements [registry.Kind].
func (k *Kind) Amend(i registry.Issuer, update map[string]any) (map[string]any, error) {
	config := setting.Merge(i.Config, update)
	_, err := read(config)
	return config, err
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
