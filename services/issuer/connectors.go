package issuer

import (
	"cmp"
	"errors"
	"net/url"
	"path/filepath"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/app"
)

// Connectors are the issuers that the environment sets up beside the Local CA, under the names of older installations.
type Connectors struct {
	StepcaURL                 string `split_words:"true" desc:"A step-ca, such as https://ca.example.org:9000; sets up issuer iss-stepca."`
	StepcaProvisionerName     string `split_words:"true" desc:"Its provisioner, of type JWK."`
	StepcaProvisionerKeyPath  string `split_words:"true" desc:"File with the provisioner's key: a JWK, or the encrypted one that step writes. Without it, the encrypted key that the CA hands out."`
	StepcaProvisionerPassword string `split_words:"true" secret:"true" desc:"Password of the provisioner's key."`
	StepcaRootFingerprint     string `split_words:"true" desc:"SHA-256 of its root certificate, by which it is recognised. Without it and a root certificate, this machine must trust the CA."`
	StepcaRootCert            string `split_words:"true" desc:"PEM file with its root certificate, instead of the fingerprint."`
	StepcaProvisioner         string `split_words:"true" desc:"Older name of CERTCTL_STEPCA_PROVISIONER_NAME."`
	StepcaKeyPath             string `split_words:"true" desc:"Older name of CERTCTL_STEPCA_PROVISIONER_KEY_PATH."`
	StepcaPassword            string `split_words:"true" secret:"true" desc:"Older name of CERTCTL_STEPCA_PROVISIONER_PASSWORD."`

	OpensslSignScript     string `split_words:"true" desc:"Program that signs requests; sets up issuer iss-openssl."`
	OpensslRevokeScript   string `split_words:"true" desc:"Program that is told of its revocations."`
	OpensslCRLScript      string `split_words:"true" desc:"Program that makes its revocation lists."`
	OpensslTimeoutSeconds int    `split_words:"true" default:"30" desc:"How long each of these programs may take."`
	OpensslCACert         string `split_words:"true" desc:"PEM file with its CA's certificate and those above it, against which its answers are held."`
	OpensslScriptDir      string `split_words:"true" desc:"Folder of programs that issuers of type OpenSSL may name when they are set up by API. Without it they can name none."`

	DigicertAPIKey         string `split_words:"true" secret:"true" desc:"API key of a DigiCert CertCentral account; sets up issuer iss-digicert."`
	DigicertOrganizationID int64  `split_words:"true" desc:"Number of the organization that its certificates are for; needed unless the product validates domains only."`
	DigicertProduct        string `split_words:"true" default:"ssl_basic" desc:"The name_id of the product that is ordered."`
	DigicertBaseURL        string `split_words:"true" desc:"Where its API is, if not at www.digicert.com: https://certcentral.digicert.eu/services/v2 for European accounts."`
}

func (c *Connectors) check() error {
	for _, twice := range [][2]string{
		{c.StepcaProvisionerName, c.StepcaProvisioner}, {c.StepcaProvisionerKeyPath, c.StepcaKeyPath}, {c.StepcaProvisionerPassword, c.StepcaPassword},
	} {
		if twice[0] != "" && twice[1] != "" && twice[0] != twice[1] {
			return errors.New("CERTCTL_STEPCA_PROVISIONER_NAME, _PROVISIONER_KEY_PATH and _PROVISIONER_PASSWORD have older names, CERTCTL_STEPCA_PROVISIONER, _KEY_PATH and _PASSWORD; set one of the two")
		}
	}
	if c.StepcaURL != "" {
		if u, err := url.Parse(c.StepcaURL); err != nil || u.Scheme != "https" || u.Host == "" {
			return errors.New("CERTCTL_STEPCA_URL must be of the form https://host:port")
		}
		if c.StepcaProvisionerName == "" && c.StepcaProvisioner == "" {
			return errors.New("CERTCTL_STEPCA_URL needs CERTCTL_STEPCA_PROVISIONER_NAME")
		}
	}
	if c.StepcaRootFingerprint != "" && c.StepcaRootCert != "" {
		return errors.New("CERTCTL_STEPCA_ROOT_FINGERPRINT and CERTCTL_STEPCA_ROOT_CERT say the same; set one of them")
	}
	if c.OpensslSignScript == "" && (c.OpensslRevokeScript != "" || c.OpensslCRLScript != "" || c.OpensslCACert != "") {
		return errors.New("CERTCTL_OPENSSL_REVOKE_SCRIPT, _CRL_SCRIPT and _CA_CERT need CERTCTL_OPENSSL_SIGN_SCRIPT")
	}
	if c.OpensslTimeoutSeconds < 0 || c.OpensslTimeoutSeconds > 3600 {
		return errors.New("CERTCTL_OPENSSL_TIMEOUT_SECONDS must be from 1 to 3600")
	}
	if c.OpensslScriptDir != "" && !filepath.IsAbs(c.OpensslScriptDir) {
		return errors.New("CERTCTL_OPENSSL_SCRIPT_DIR must be an absolute path")
	}
	if c.DigicertAPIKey == "" && (c.DigicertOrganizationID != 0 || c.DigicertBaseURL != "") {
		return errors.New("CERTCTL_DIGICERT_ORGANIZATION_ID and _BASE_URL need CERTCTL_DIGICERT_API_KEY")
	}
	if c.DigicertOrganizationID < 0 || c.DigicertOrganizationID > 1<<53 {
		return errors.New("CERTCTL_DIGICERT_ORGANIZATION_ID must be the number of an organization")
	}
	return nil
}

func (c *Connectors) digiCert() app.DigiCert {
	return app.DigiCert{APIKey: c.DigicertAPIKey, OrganizationID: c.DigicertOrganizationID, Product: c.DigicertProduct, BaseURL: c.DigicertBaseURL}
}

func (c *Connectors) stepCA() app.StepCA {
	return app.StepCA{
		URL: c.StepcaURL, RootFingerprint: c.StepcaRootFingerprint, RootCertPath: c.StepcaRootCert,
		Provisioner: cmp.Or(c.StepcaProvisionerName, c.StepcaProvisioner),
		KeyPath:     cmp.Or(c.StepcaProvisionerKeyPath, c.StepcaKeyPath),
		Password:    cmp.Or(c.StepcaProvisionerPassword, c.StepcaPassword),
	}
}

func (c *Connectors) openSSL() app.OpenSSL {
	return app.OpenSSL{
		ScriptDir: c.OpensslScriptDir, Sign: c.OpensslSignScript, Revoke: c.OpensslRevokeScript, CRL: c.OpensslCRLScript,
		Timeout: time.Duration(c.OpensslTimeoutSeconds) * time.Second, CACertPath: c.OpensslCACert,
	}
}
