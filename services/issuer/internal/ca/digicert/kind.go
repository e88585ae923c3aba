package digicert

import (
	"context"
	"net"
	"net/url"
	"strings"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/setting"
)

// The settings of an account, by their names in an issuer's config.
const (
	SettingAPIKey       = "api_key"
	SettingProduct      = "product"
	SettingOrganization = "organization_id"
	SettingContainer    = "container_id"
	SettingCACertID     = "ca_cert_id"
	SettingDCVMethod    = "dcv_method"
	SettingPayment      = "payment_method"
	SettingSkipApproval = "skip_approval"
	SettingBaseURL      = "base_url"
	SettingRoots        = "ca_cert_pem"
)

// DefaultProduct is what is ordered if nothing is said.
const DefaultProduct = "ssl_basic"

const (
	notABase = "must be of the form https://host/services/v2, or http on this machine"
	maxID    = 1 << 53
)

// The ways to prove the control of a domain, and to pay.
var (
	dcvMethods = []string{"email", "dns-txt-token", "dns-cname-token", "http-token", "http-token-dynamic"}
	payments   = []string{"balance", "card", "profile"}
)

// Kind opens accounts of CertCentral. It implements [registry.Keeper].
type Kind struct {
	Clock clock.Clock
}

// acceptable reports whether the key may be sent there: over TLS, or without leaving the machine.
func acceptable(base *url.URL) bool {
	if base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return false
	}
	ip := net.ParseIP(base.Hostname())
	return base.Scheme == "https" || base.Scheme == "http" && (base.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

func read(config map[string]any) (Config, error) {
	r := setting.Of(registry.TypeDigiCert, config)
	c := Config{
		APIKey: r.Required(SettingAPIKey), Product: r.Text(SettingProduct), OrganizationID: r.Whole(SettingOrganization, 1, maxID),
		ContainerID: r.Whole(SettingContainer, 1, maxID), CACertID: r.Text(SettingCACertID), BaseURL: r.Text(SettingBaseURL),
		DCVMethod:     r.OneOf(SettingDCVMethod, "", dcvMethods...),
		PaymentMethod: r.OneOf(SettingPayment, payments[0], payments...), SkipApproval: r.Switch(SettingSkipApproval, true),
		Lifetime: r.Lifetime(),
	}
	if c.Product == "" {
		c.Product = DefaultProduct
	}
	// They become part of a path and of a header.
	if strings.ContainsFunc(c.Product, func(c rune) bool {
		return c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9')
	}) {
		r.Bad(SettingProduct, "is no product's name_id, such as ssl_basic")
	}
	if strings.ContainsFunc(c.APIKey, func(c rune) bool { return c <= ' ' || c > '~' }) {
		r.Bad(SettingAPIKey, "is no API key: it holds spaces or other characters than ASCII")
	}
	if c.BaseURL == "" {
		c.BaseURL = DefaultBaseURL
	}
	if base, err := url.Parse(c.BaseURL); err != nil || !acceptable(base) {
		r.Bad(SettingBaseURL, notABase)
	}
	if c.OrganizationID == 0 && config[SettingOrganization] == nil && !domainsOnly(c.Product) {
		r.Bad(SettingOrganization, "is required, unless the product validates domains only")
	}
	if text := r.Text(SettingRoots); text != "" {
		var err error
		if c.Roots, err = x509x.ParseCertificates([]byte(text)); err != nil {
			r.Bad(SettingRoots, "is no certificate: "+err.Error())
		}
	}
	return c, r.Err()
}

// domainsOnly reports whether a product names no organization in its certificates.
func domainsOnly(product string) bool { return strings.Contains(product, "_dv_") }

// Secrets implements [registry.Keeper].
func (k *Kind) Secrets() []string { return []string{SettingAPIKey} }

// Make implements [registry.Kind]. It asks nobody; CertCentral may be away while an issuer is set up.
func (k *Kind) Make(i registry.Issuer, config map[string]any) (registry.Made, error) {
	config, err := k.Amend(i, config)
	return registry.Made{Config: config}, err
}

// Amend implements [registry.Kind]. Whoever sends the key elsewhere has to know it: else it would be a way to be shown
// what is hidden.
func (k *Kind) Amend(i registry.Issuer, update map[string]any) (map[string]any, error) {
	config := setting.Merge(i.Config, update)
	if _, err := read(config); err != nil {
		return nil, err
	}
	_, given := update[SettingAPIKey]
	if i.Config != nil && i.Config[SettingBaseURL] != config[SettingBaseURL] && !given {
		return nil, fault.InvalidFields(fault.Field{Name: "config." + SettingBaseURL, Reason: "says where " + SettingAPIKey + " is sent; give that anew to change it"})
	}
	return config, nil
}

// Open implements [registry.Kind].
func (k *Kind) Open(ctx context.Context, i registry.Issuer) (ca.Issuer, map[string]any, error) {
	c, err := read(i.Config)
	if err != nil {
		return nil, nil, err
	}
	if i.CAChainPEM != "" {
		if c.Chain, err = x509x.ParseCertificates([]byte(i.CAChainPEM)); err != nil {
			return nil, nil, fault.Wrap(err, fault.Unavailable, "the chain on record of issuer %s cannot be read", i.ID)
		}
	}
	a, err := Open(ctx, c, k.Clock)
	if err != nil {
		return nil, nil, err
	}
	return a, i.Config, nil
}
