package issuer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/services/issuer/internal/app"
)

func load(t *testing.T, variables map[string]string) (Config, error) {
	t.Helper()
	for name, value := range variables {
		t.Setenv("CERTCTL_"+name, value)
	}
	var c Config
	err := config.Load("CERTCTL", &c)
	return c, err
}

// Deployments of the older server have either: what its documents say, or what its code read.
func TestConfig_TakesStepCAByItsDocumentedAndByItsOlderNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := app.StepCA{URL: "https://ca.example.com", Provisioner: "admin", KeyPath: "/key", Password: "secret"}
	for name, variables := range map[string]map[string]string{
		"documented": {"STEPCA_PROVISIONER_NAME": "admin", "STEPCA_PROVISIONER_KEY_PATH": "/key", "STEPCA_PROVISIONER_PASSWORD": "secret"},
		"older":      {"STEPCA_PROVISIONER": "admin", "STEPCA_KEY_PATH": "/key", "STEPCA_PASSWORD": "secret"},
		"from file":  {"STEPCA_PROVISIONER_NAME": "admin", "STEPCA_KEY_PATH": "/key", "STEPCA_PROVISIONER_PASSWORD_FILE": file},
	} {
		t.Run(name, func(t *testing.T) {
			variables["STEPCA_URL"] = "https://ca.example.com"
			c, err := load(t, variables)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, c.stepCA()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestConfig_TakesTheProgramsOfACA(t *testing.T) {
	c, err := load(t, map[string]string{
		"OPENSSL_SIGN_SCRIPT": "/sign", "OPENSSL_REVOKE_SCRIPT": "/revoke", "OPENSSL_CRL_SCRIPT": "/crl",
		"OPENSSL_CA_CERT": "/ca.pem", "OPENSSL_SCRIPT_DIR": "/dir",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := app.OpenSSL{ScriptDir: "/dir", Sign: "/sign", Revoke: "/revoke", CRL: "/crl", Timeout: 30 * time.Second, CACertPath: "/ca.pem"}
	if d := cmp.Diff(want, c.openSSL()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestConfig_TakesAnAccountOfCertCentral(t *testing.T) {
	c, err := load(t, map[string]string{"DIGICERT_API_KEY": "k", "DIGICERT_ORGANIZATION_ID": "5", "DIGICERT_BASE_URL": "https://certcentral.digicert.eu/services/v2"})
	if err != nil {
		t.Fatal(err)
	}
	want := app.DigiCert{APIKey: "k", OrganizationID: 5, Product: "ssl_basic", BaseURL: "https://certcentral.digicert.eu/services/v2"}
	if d := cmp.Diff(want, c.digiCert()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestConfig_SaysWhichVariablesOfAConnectorAreWrong(t *testing.T) {
	for says, variables := range map[string]map[string]string{
		"CERTCTL_STEPCA_URL must be":               {"STEPCA_URL": "http://ca", "STEPCA_PROVISIONER": "p"},
		"needs CERTCTL_STEPCA_PROVISIONER_NAME":    {"STEPCA_URL": "https://ca"},
		"set one of the two":                       {"STEPCA_PROVISIONER": "a", "STEPCA_PROVISIONER_NAME": "b"},
		"set one of them":                          {"STEPCA_ROOT_CERT": "/a", "STEPCA_ROOT_FINGERPRINT": "b"},
		"need CERTCTL_OPENSSL_SIGN_SCRIPT":         {"OPENSSL_CRL_SCRIPT": "/crl"},
		"CERTCTL_OPENSSL_TIMEOUT_SECONDS must be":  {"OPENSSL_TIMEOUT_SECONDS": "-1"},
		"CERTCTL_OPENSSL_SCRIPT_DIR must be an":    {"OPENSSL_SCRIPT_DIR": "scripts"},
		"need CERTCTL_DIGICERT_API_KEY":            {"DIGICERT_ORGANIZATION_ID": "5"},
		"CERTCTL_DIGICERT_ORGANIZATION_ID must be": {"DIGICERT_API_KEY": "k", "DIGICERT_ORGANIZATION_ID": "-5"},
		"CERTCTL_OPENSSL_TIMEOUT_SECONDS is not a": {"OPENSSL_TIMEOUT_SECONDS": "soon"},
		"needs CERTCTL_ACME_DNS_PROVIDER":          {"ACME_DNS_SETTINGS_FILE": "/dns.json"},
		"need CERTCTL_ACME_DIRECTORY_URL":          {"ACME_DNS_PROVIDER": "rfc2136"},
	} {
		t.Run(says, func(t *testing.T) {
			if _, err := load(t, variables); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestConfig_HasTheServerMakeKeysOnlyIfItIsToldSo(t *testing.T) {
	for value, want := range map[string]bool{"": false, "agent": false, "server": true} {
		t.Run(value, func(t *testing.T) {
			variables := map[string]string{}
			if value != "" {
				variables["KEYGEN_MODE"] = value
			}
			c, err := load(t, variables)
			if err != nil || c.settings().ServerKeys != want {
				t.Errorf("%v, %v", c.settings().ServerKeys, err)
			}
		})
	}
	if _, err := load(t, map[string]string{"KEYGEN_MODE": "Server"}); err == nil || !strings.Contains(err.Error(), "CERTCTL_KEYGEN_MODE must be agent or server") {
		t.Errorf("error %v", err)
	}
}
