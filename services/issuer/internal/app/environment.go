package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/digicert"
	"github.com/certctl/certctl/services/issuer/internal/ca/script"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca"
	"github.com/certctl/certctl/services/issuer/internal/registry"
)

// The issuers that the environment sets up, as older installations know them.
const (
	stepCAIssuer  = "iss-stepca"
	openSSLIssuer = "iss-openssl"
	acmeIssuer    = "iss-acme-prod"
	// acmeStagingIssuer is for a directory whose host says so, as Let's Encrypt's does.
	acmeStagingIssuer = "iss-acme-staging"
	digiCertIssuer    = "iss-digicert"
)

// StepCA is a step-ca that the environment sets up; without a URL there is none.
type StepCA struct {
	URL, RootFingerprint, RootCertPath string
	Provisioner, KeyPath, Password     string
}

// OpenSSL says which programs may be run, and which CA behind programs the environment sets up; without Sign there is
// none.
type OpenSSL struct {
	// ScriptDir is the folder of programs that issuers set up by API may name.
	ScriptDir         string
	Sign, Revoke, CRL string
	Timeout           time.Duration
	CACertPath        string
}

// ACME says how names are proven to ACME CAs, and which of them the environment sets up; without a directory there is
// none.
type ACME struct {
	Directory, Email        string
	Challenge, Via          string
	KeyID, MACKey           string
	Profile, PreferredChain string
	CACertPath              string
	Preflight               string
	// DNSProvider hosts the zones, with the settings in the file.
	DNSProvider, DNSSettingsPath string
	// HTTPAddress is where HTTP-01 is answered; empty is port 80.
	HTTPAddress string
	// DNS are the programs that every issuer proves names with by DNS-01; an API caller can name none.
	DNS acme.Hooks
}

// DigiCert is an account of CertCentral that the environment sets up; without a key there is none.
type DigiCert struct {
	APIKey           string
	OrganizationID   int64
	Product, BaseURL string
}

func (d *DigiCert) config() map[string]any {
	config := filled(map[string]any{
		digicert.SettingAPIKey: d.APIKey, digicert.SettingProduct: d.Product, digicert.SettingBaseURL: d.BaseURL,
	})
	if d.OrganizationID != 0 {
		config[digicert.SettingOrganization] = float64(d.OrganizationID)
	}
	return config
}

func (o *OpenSSL) trusted() string {
	if o.Sign == "" {
		return ""
	}
	return openSSLIssuer
}

// given reads the files that the environment names.
func (s *Settings) given() (map[string]registry.Given, error) {
	all := map[string]registry.Given{}
	if s.StepCA.URL != "" {
		config, err := s.StepCA.config()
		if err != nil {
			return nil, err
		}
		all[stepCAIssuer] = registry.Given{ID: stepCAIssuer, Name: "step-ca", Type: registry.TypeStepCA, Config: config, Source: "CERTCTL_STEPCA_*"}
	}
	if s.OpenSSL.Sign != "" {
		config, err := s.OpenSSL.config()
		if err != nil {
			return nil, err
		}
		all[openSSLIssuer] = registry.Given{ID: openSSLIssuer, Name: "OpenSSL", Type: registry.TypeOpenSSL, Config: config, Source: "CERTCTL_OPENSSL_*"}
	}
	if s.ACME.Directory != "" {
		config, err := s.ACME.config()
		if err != nil {
			return nil, err
		}
		id := acmeIssuer
		if u, err := url.Parse(s.ACME.Directory); err == nil && strings.Contains(u.Host, "staging") {
			id = acmeStagingIssuer
		}
		all[id] = registry.Given{ID: id, Name: "ACME", Type: registry.TypeACME, Config: config, Source: "CERTCTL_ACME_*"}
	}
	if s.DigiCert.APIKey != "" {
		all[digiCertIssuer] = registry.Given{ID: digiCertIssuer, Name: "DigiCert", Type: registry.TypeDigiCert, Config: s.DigiCert.config(), Source: "CERTCTL_DIGICERT_*"}
	}
	return all, nil
}

func (a *ACME) config() (map[string]any, error) {
	roots, err := file("CERTCTL_ACME_CA_CERT", a.CACertPath)
	if err != nil {
		return nil, err
	}
	config, err := a.dnsSettings()
	if err != nil {
		return nil, err
	}
	maps.Copy(config, filled(map[string]any{
		acme.SettingDirectory: a.Directory, acme.SettingEmail: a.Email, acme.SettingChallenge: a.Challenge,
		acme.SettingVia: a.Via, acme.SettingKeyID: a.KeyID,
		acme.SettingMACKey: a.MACKey, acme.SettingProfile: a.Profile, acme.SettingChain: a.PreferredChain, acme.SettingRoots: roots,
		acme.SettingPreflight: a.Preflight, acme.SettingDNSProvider: a.DNSProvider,
	}))
	return config, nil
}

// dnsSettings reads the file with the settings of who hosts the zones.
func (a *ACME) dnsSettings() (map[string]any, error) {
	const variable = "CERTCTL_ACME_DNS_SETTINGS_FILE"
	config := map[string]any{}
	text, err := file(variable, a.DNSSettingsPath)
	if err != nil || a.DNSSettingsPath == "" {
		return config, err
	}
	// What a decoder says of JSON that is none may quote it, and it holds secrets.
	if json.Unmarshal([]byte(text), &config) != nil {
		return nil, errors.New(variable + ": it is no JSON object")
	}
	for setting := range config {
		if !strings.HasPrefix(setting, acme.DNSSettings) {
			return nil, fmt.Errorf("%s: %s is none of the settings %s*", variable, setting, acme.DNSSettings)
		}
	}
	return config, nil
}

func (s *StepCA) config() (map[string]any, error) {
	key, err := file("CERTCTL_STEPCA_PROVISIONER_KEY_PATH", s.KeyPath)
	if err != nil {
		return nil, err
	}
	fingerprint := s.RootFingerprint
	if s.RootCertPath != "" {
		text, err := file("CERTCTL_STEPCA_ROOT_CERT", s.RootCertPath)
		if err != nil {
			return nil, err
		}
		roots, err := x509x.ParseCertificates([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("CERTCTL_STEPCA_ROOT_CERT: %w", err)
		}
		fingerprint = x509x.Fingerprint(roots[0].Raw)
	}
	return filled(map[string]any{
		stepca.SettingURL: s.URL, stepca.SettingFingerprint: fingerprint, stepca.SettingProvisioner: s.Provisioner,
		stepca.SettingKey: key, stepca.SettingPassword: s.Password,
	}), nil
}

func (o *OpenSSL) config() (map[string]any, error) {
	chain, err := file("CERTCTL_OPENSSL_CA_CERT", o.CACertPath)
	if err != nil {
		return nil, err
	}
	config := filled(map[string]any{
		script.SettingSign: o.Sign, script.SettingRevoke: o.Revoke, script.SettingCRL: o.CRL, script.SettingChain: chain,
	})
	if o.Timeout > 0 {
		config[script.SettingTimeout] = o.Timeout.Seconds()
	}
	return config, nil
}

// filled leaves out what is not set.
func filled(config map[string]any) map[string]any {
	for setting, v := range config {
		if v == "" {
			delete(config, setting)
		}
	}
	return config
}

func file(variable, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", variable, err)
	}
	return strings.TrimSpace(string(text)), nil
}
