package issuer

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"
)

// Config is read from CERTCTL_*. Its zero value is that of a Local CA that signs itself.
type Config struct {
	PublicURL string `split_words:"true" default:"http://127.0.0.1:8080" desc:"Where relying parties reach CRL, OCSP and CA certificates; written into every certificate that the Local CA issues. certctl up takes where its gateway listens, if that is loopback."`

	CACertPath string `split_words:"true" desc:"PEM file with the Local CA's certificate and those above it. Without it the Local CA signs itself."`
	CAKeyPath  string `split_words:"true" desc:"PEM file with the key of CERTCTL_CA_CERT_PATH (PKCS #8, PKCS #1 or SEC 1, encrypted or not)."`

	CAKeyPassword string `split_words:"true" secret:"true" desc:"Password of the key of CERTCTL_CA_KEY_PATH, if that is encrypted."`
	SignerSocket  string `split_words:"true" desc:"Unix socket of certctl-signer, for CAs whose key is in a PKCS#11 token (HSM). Without it there are none."`

	Connectors
	ACME

	SchedulerJobProcessorInterval time.Duration `split_words:"true" default:"30s" desc:"How often jobs are looked for that nothing has woken a worker for."`
	SchedulerRenewalCheckInterval time.Duration `split_words:"true" default:"1h" desc:"How often certificates that are due to be renewed, or to be told of, are looked for that nothing has woken the engine for; it wakes by itself when the next falls due."`
	RenewalsPerIssuer             int           `split_words:"true" default:"500" desc:"How many renewals of their own accord may be under way with one issuer; further ones wait."`
	KeygenMode                    string        `split_words:"true" default:"agent" desc:"Who makes private keys: agent, for the agents of targets and those who send signing requests; server, for demonstrations only, where the server makes those that nobody else will, and hands each out once."`
	CSRDeadline                   time.Duration `split_words:"true" default:"10m" desc:"How long an agent has to answer a request for a key before it is asked again."`
}

// What CERTCTL_KEYGEN_MODE may be.
const (
	keygenAgent  = "agent"
	keygenServer = "server"
)

// Validate implements the check of libs/config.
func (c *Config) Validate() error {
	if (c.CACertPath == "") != (c.CAKeyPath == "") {
		return errors.New("CERTCTL_CA_CERT_PATH and CERTCTL_CA_KEY_PATH belong together; set both or none")
	}
	if c.CAKeyPassword != "" && c.CAKeyPath == "" {
		return errors.New("CERTCTL_CA_KEY_PASSWORD is that of CERTCTL_CA_KEY_PATH, which is not set")
	}
	if u, err := url.Parse(c.PublicURL); err != nil || c.PublicURL != "" && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("CERTCTL_PUBLIC_URL must be of the form http://host:port")
	}
	if c.SignerSocket != "" && !filepath.IsAbs(c.SignerSocket) {
		return errors.New("CERTCTL_SIGNER_SOCKET must be an absolute path")
	}
	if c.KeygenMode != "" && c.KeygenMode != keygenAgent && c.KeygenMode != keygenServer {
		return fmt.Errorf("CERTCTL_KEYGEN_MODE must be %s or %s", keygenAgent, keygenServer)
	}
	if err := c.Connectors.check(); err != nil {
		return err
	}
	if err := c.ACME.check(); err != nil {
		return err
	}
	if c.SchedulerJobProcessorInterval < 0 || c.SchedulerRenewalCheckInterval < 0 || c.CSRDeadline < 0 || c.RenewalsPerIssuer < 0 {
		return errors.New("CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL, CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL, CERTCTL_RENEWALS_PER_ISSUER and CERTCTL_CSR_DEADLINE must not be negative")
	}
	return nil
}
