package issuer

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
)

// Config is read from CERTCTL_*. Its zero value is that of a Local CA that signs itself.
type Config struct {
	PublicURL string `split_words:"true" default:"http://127.0.0.1:8080" desc:"Where relying parties reach CRL, OCSP and CA certificates; written into every certificate that the Local CA issues."`

	CACertPath string `split_words:"true" desc:"PEM file with the Local CA's certificate and those above it. Without it the Local CA signs itself."`
	CAKeyPath  string `split_words:"true" desc:"PEM file with the key of CERTCTL_CA_CERT_PATH (PKCS #8, PKCS #1 or SEC 1)."`

	SchedulerJobProcessorInterval time.Duration `split_words:"true" default:"30s" desc:"How often jobs are looked for that nothing has woken a worker for."`
	CSRDeadline                   time.Duration `split_words:"true" default:"10m" desc:"How long an agent has to answer a request for a key before it is asked again."`

	AcmeDirectoryURL   string `split_words:"true" desc:"ACME directory of the issuer iss-acme-prod, or iss-acme-staging if the host's name says staging. To set it is to agree to that CA's terms."`
	AcmeEmail          string `split_words:"true" desc:"Contact that the ACME CA is told."`
	AcmeChallengeType  string `split_words:"true" default:"http-01" desc:"How that issuer proves names: http-01 or dns-01."`
	AcmeEabKid         string `split_words:"true" desc:"Id of the account that the CA knows already and the ACME account is bound to."`
	AcmeEabHmacKey     string `split_words:"true" secret:"true" desc:"Key of CERTCTL_ACME_EAB_KID in base64url."`
	AcmeProfile        string `split_words:"true" desc:"Certificate profile of the ACME CA; empty is its default."`
	AcmePreferredChain string `split_words:"true" desc:"Common name of the root that the chain is to lead to, if the CA offers several."`
	AcmeCACertPath     string `split_words:"true" desc:"PEM file with what the directory's TLS certificate leads to, for a CA of your own."`
	AcmeHTTPPort       int    `split_words:"true" default:"80" desc:"Port on which http-01 is answered, while there is something to prove."`

	AcmeDNSPresentScript      string        `split_words:"true" desc:"Program that sets a TXT record for dns-01 (docs/how-to/acme.md)."`
	AcmeDNSCleanupScript      string        `split_words:"true" desc:"Program that removes it."`
	AcmeDNSPropagationWait    time.Duration `split_words:"true" default:"10s" desc:"How long nobody looks for the record after it was set, so that no resolver remembers its absence."`
	AcmeDNSPropagationTimeout time.Duration `split_words:"true" default:"2m" desc:"How long the record may take to be seen then; 0s is not to look."`
	AcmeDNSResolver           string        `split_words:"true" desc:"host:port of the resolver that is asked for the record; empty are the system's."`
}

// Validate implements the check of libs/config.
func (c *Config) Validate() error {
	if (c.CACertPath == "") != (c.CAKeyPath == "") {
		return errors.New("CERTCTL_CA_CERT_PATH and CERTCTL_CA_KEY_PATH belong together; set both or none")
	}
	if u, err := url.Parse(c.PublicURL); err != nil || c.PublicURL != "" && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("CERTCTL_PUBLIC_URL must be of the form http://host:port")
	}
	if c.SchedulerJobProcessorInterval < 0 || c.CSRDeadline < 0 {
		return errors.New("CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL and CERTCTL_CSR_DEADLINE must not be negative")
	}
	if c.AcmeHTTPPort < 0 || c.AcmeHTTPPort > 65535 {
		return errors.New("CERTCTL_ACME_HTTP_PORT must be a port")
	}
	if c.AcmeDNSPropagationWait < 0 || c.AcmeDNSPropagationTimeout < 0 {
		return errors.New("CERTCTL_ACME_DNS_PROPAGATION_WAIT and CERTCTL_ACME_DNS_PROPAGATION_TIMEOUT must not be negative")
	}
	return nil
}

// acme reads what the environment says of ACME.
func (c *Config) acme() (app.ACME, error) {
	a := app.ACME{
		Issuer: acme.Settings{
			Directory: c.AcmeDirectoryURL, Email: c.AcmeEmail, Challenge: c.AcmeChallengeType, KeyID: c.AcmeEabKid, MACKey: c.AcmeEabHmacKey,
			Profile: c.AcmeProfile, PreferredChain: c.AcmePreferredChain,
		},
		HTTPAddress: ":" + strconv.Itoa(c.AcmeHTTPPort),
		DNS: acme.Hooks{
			SetUp: c.AcmeDNSPresentScript, CleanUp: c.AcmeDNSCleanupScript,
			Wait: c.AcmeDNSPropagationWait, Propagation: c.AcmeDNSPropagationTimeout, Resolver: c.AcmeDNSResolver,
		},
	}
	if c.AcmeHTTPPort == 0 {
		a.HTTPAddress = ""
	}
	if c.AcmeCACertPath == "" {
		return a, nil
	}
	text, err := os.ReadFile(c.AcmeCACertPath)
	if err != nil {
		return a, fmt.Errorf("CERTCTL_ACME_CA_CERT_PATH: %w", err)
	}
	a.Issuer.RootsPEM = string(text)
	return a, nil
}
