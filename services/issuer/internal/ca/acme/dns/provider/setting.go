package provider

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
	"github.com/certctl/certctl/services/issuer/internal/setting"
)

// The settings that are secret.
const (
	settingTSIGSecret      = "dns_rfc2136_tsig_secret"
	settingRoute53Secret   = "dns_route53_secret_access_key"
	settingRoute53Session  = "dns_route53_session_token"
	settingCloudflareToken = "dns_cloudflare_api_token"
	settingAzureSecret     = "dns_azuredns_client_secret"
	settingGoogleKey       = "dns_gcloud_service_account_key"
	settingAcmeDNSAccounts = "dns_acmedns_accounts"
)

// Secrets names the settings that are secret.
func Secrets() []string {
	return []string{
		settingTSIGSecret, settingRoute53Secret, settingRoute53Session, settingCloudflareToken, settingAzureSecret, settingGoogleKey, settingAcmeDNSAccounts,
	}
}

// fields reads the settings of one provider. Those of one that is not chosen are at fault, so that a slip of the hand is
// seen, and no secret stays that is of no use.
type fields struct {
	*setting.Reader
	provider string
	chosen   bool
}

func (f fields) text(name string) string {
	v := f.Text(name)
	if v != "" && !f.chosen {
		f.Bad(name, "belongs to dns_provider "+f.provider+", which is not chosen; leave it out, or null it")
	}
	return v
}

func (f fields) required(name string) string {
	v := f.text(name)
	if v == "" && f.chosen {
		f.Bad(name, "is required by dns_provider "+f.provider)
	}
	return v
}

// Read reads the settings of every provider and returns the one that is chosen, nil if it is none of them. What is wrong
// is noted in the reader.
func Read(r *setting.Reader, chosen string, e Endpoints) publish.Provider {
	of := func(name string) fields { return fields{r, name, name == chosen} }
	all := map[string]publish.Provider{
		RFC2136: readUpdate(of(RFC2136)), Route53: readRoute53(of(Route53), e), Cloudflare: readCloudflare(of(Cloudflare), e),
		Azure: readAzure(of(Azure), e), Google: readGoogle(of(Google), e), AcmeDNS: readAcmeDNS(of(AcmeDNS)),
	}
	return all[chosen]
}

func readUpdate(f fields) publish.Provider {
	u := &Update{
		Server: f.required("dns_rfc2136_nameserver"), Key: f.text("dns_rfc2136_tsig_key"), Secret: f.text(settingTSIGSecret),
		Algorithm: strings.ToLower(strings.TrimSuffix(f.text("dns_rfc2136_tsig_algorithm"), ".")),
	}
	if f.chosen && u.Server != "" {
		if !isServer(u.Server) {
			f.Bad("dns_rfc2136_nameserver", "must be a host, or host:port")
		}
		if _, _, err := net.SplitHostPort(u.Server); err != nil {
			u.Server = net.JoinHostPort(strings.Trim(u.Server, "[]"), "53")
		}
	}
	if u.Algorithm == "" {
		u.Algorithm = "hmac-sha256"
	}
	if f.chosen && !algorithms[u.Algorithm] {
		f.Bad("dns_rfc2136_tsig_algorithm", "must be hmac-sha256 (the default), hmac-sha512, hmac-sha384, hmac-sha224 or hmac-sha1")
	}
	if f.chosen && ((u.Key == "") != (u.Secret == "") || !isBase64(u.Secret)) {
		f.Bad(settingTSIGSecret, "must be a key in base64, and belongs together with dns_rfc2136_tsig_key")
	}
	return u
}

func readRoute53(f fields, e Endpoints) publish.Provider {
	a := Route53Account{
		AccessKey: f.required("dns_route53_access_key_id"), Secret: f.required(settingRoute53Secret), SessionToken: f.text(settingRoute53Session),
		Region: f.text("dns_route53_region"), HostedZone: f.text("dns_route53_hosted_zone_id"),
	}
	if f.chosen && strings.ContainsFunc(a.Region, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }) {
		f.Bad("dns_route53_region", "must be a region such as us-east-1")
	}
	return NewRoute53(a, e)
}

func readCloudflare(f fields, e Endpoints) publish.Provider {
	token := f.required(settingCloudflareToken)
	if f.chosen && strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		f.Bad(settingCloudflareToken, "must be an API token")
	}
	return NewCloudflare(token, e)
}

func readAzure(f fields, e Endpoints) publish.Provider {
	a := AzureAccount{
		Tenant: f.required("dns_azuredns_tenant_id"), Client: f.required("dns_azuredns_client_id"), Secret: f.required(settingAzureSecret),
		Subscription: f.required("dns_azuredns_subscription_id"), ResourceGroup: f.required("dns_azuredns_resource_group"),
		Cloud: f.text("dns_azuredns_cloud"),
	}
	if _, ok := azureClouds[a.Cloud]; f.chosen && !ok && a.Cloud != "" {
		f.Bad("dns_azuredns_cloud", "must be public (the default), usgovernment or china")
	}
	return NewAzure(a, e)
}

func readGoogle(f fields, e Endpoints) publish.Provider {
	key, project := f.required(settingGoogleKey), f.text("dns_gcloud_project")
	if !f.chosen || key == "" {
		return nil
	}
	g, err := NewGoogle(key, project, e)
	if err != nil {
		f.Bad(settingGoogleKey, err.Error())
	}
	return g
}

func readAcmeDNS(f fields) publish.Provider {
	accounts, server := f.required(settingAcmeDNSAccounts), f.text("dns_acmedns_server")
	if !f.chosen || accounts == "" {
		return nil
	}
	n, err := NewAcmeDNS(accounts, server)
	if err != nil {
		f.Bad(settingAcmeDNSAccounts, err.Error())
	}
	return n
}

// isURL tells whether a text is an address to which a password may be sent: by TLS, or without leaving this host.
func isURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && ip != nil && ip.IsLoopback()
}

// isServer tells whether a text is a host, or host:port.
func isServer(s string) bool {
	host := s
	if h, p, err := net.SplitHostPort(s); err == nil {
		host = h
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	host = strings.Trim(host, "[]")
	return host != "" && !strings.ContainsAny(host, " /@?#%\t\n") && (net.ParseIP(host) != nil || !strings.Contains(host, ":"))
}

// Servers reads resolvers, each a host, or host:port.
func Servers(r *setting.Reader, name string) []string {
	servers := r.Words(name)
	if i := slices.IndexFunc(servers, func(s string) bool { return !isServer(s) }); i >= 0 || len(servers) > 8 {
		r.Bad(name, "must be at most eight resolvers, each a host, or host:port")
	}
	return servers
}

// Zones reads names of zones.
func Zones(r *setting.Reader, name string) []string {
	var zones []string
	for _, given := range r.Words(name) {
		zone := strings.ToLower(strings.Trim(strings.TrimSpace(given), "."))
		if zone == "" || strings.ContainsFunc(zone, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.", c)
		}) {
			r.Bad(name, fmt.Sprintf("%q is no zone; name zones such as example.com", given))
			continue
		}
		zones = append(zones, zone)
	}
	return zones
}
