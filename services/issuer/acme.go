package issuer

import (
	"errors"
	"strconv"
	"time"

	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
)

// ACME is how names are proven to ACME CAs, and the one that the environment sets up.
type ACME struct {
	AcmeDirectoryURL   string `split_words:"true" desc:"ACME directory of the issuer iss-acme-prod, or iss-acme-staging if the host's name says staging. To set it is to agree to that CA's terms."`
	AcmeEmail          string `split_words:"true" desc:"Contact that the ACME CA is told."`
	AcmeChallengeType  string `split_words:"true" default:"http-01" desc:"How that issuer proves names: http-01 or dns-01."`
	AcmeHttp01Via      string `split_words:"true" desc:"Who answers http-01 for that issuer: listener, this process (the default), or agent, the agent of the certificate's first target."` //nolint:staticcheck // the variable is to be _HTTP01_, and HTTP01 would be split into HTT and P01
	AcmeEabKid         string `split_words:"true" desc:"Id of the account that the CA knows already and the ACME account is bound to."`
	AcmeEabHmacKey     string `split_words:"true" secret:"true" desc:"Key of CERTCTL_ACME_EAB_KID in base64url."`
	AcmeProfile        string `split_words:"true" desc:"Certificate profile of the ACME CA; empty is its default."`
	AcmePreferredChain string `split_words:"true" desc:"Common name of the root that the chain is to lead to, if the CA offers several."`
	AcmeCACert         string `split_words:"true" desc:"PEM file with what the directory's TLS certificate leads to, for a CA of your own."`
	AcmeHTTPPort       int    `split_words:"true" default:"80" desc:"Port on which http-01 is answered, while there is something to prove."`

	AcmePreflight       string `split_words:"true" desc:"What becomes of what is found before an order: block (the default), warn or off."`
	AcmeDNSProvider     string `split_words:"true" desc:"Who hosts the zones, for dns-01: scripts (the default), rfc2136, route53, cloudflare, azuredns, gcloud or acmedns."`
	AcmeDNSSettingsFile string `split_words:"true" desc:"JSON file with the settings of CERTCTL_ACME_DNS_PROVIDER, dns_* as an issuer set up by API has them (docs/how-to/acme.md)."`

	AcmeDNSPresentScript      string        `split_words:"true" desc:"Program that sets a TXT record for dns-01 (docs/how-to/acme.md)."`
	AcmeDNSCleanupScript      string        `split_words:"true" desc:"Program that removes it."`
	AcmeDNSPropagationWait    time.Duration `split_words:"true" default:"10s" desc:"How long nobody looks for the record after it was set, so that no resolver remembers its absence."`
	AcmeDNSPropagationTimeout time.Duration `split_words:"true" default:"2m" desc:"How long the record may take to be seen then; 0s is not to look."`
	AcmeDNSResolver           string        `split_words:"true" desc:"host:port of the resolver that is asked for records, unless an issuer names its own; empty are the system's."`
}

func (c *ACME) check() error {
	if c.AcmeDNSSettingsFile != "" && c.AcmeDNSProvider == "" {
		return errors.New("CERTCTL_ACME_DNS_SETTINGS_FILE needs CERTCTL_ACME_DNS_PROVIDER")
	}
	if c.AcmeDirectoryURL == "" && (c.AcmeDNSProvider != "" || c.AcmePreflight != "") {
		return errors.New("CERTCTL_ACME_DNS_PROVIDER and CERTCTL_ACME_PREFLIGHT need CERTCTL_ACME_DIRECTORY_URL")
	}
	if c.AcmeDirectoryURL == "" && (c.AcmeEmail != "" || c.AcmeEabKid != "" || c.AcmeEabHmacKey != "" || c.AcmeCACert != "") {
		return errors.New("CERTCTL_ACME_EMAIL, _EAB_KID, _EAB_HMAC_KEY and _CA_CERT need CERTCTL_ACME_DIRECTORY_URL")
	}
	if c.AcmeHTTPPort < 0 || c.AcmeHTTPPort > 65535 {
		return errors.New("CERTCTL_ACME_HTTP_PORT must be a port")
	}
	if c.AcmeDNSPropagationWait < 0 || c.AcmeDNSPropagationTimeout < 0 {
		return errors.New("CERTCTL_ACME_DNS_PROPAGATION_WAIT and CERTCTL_ACME_DNS_PROPAGATION_TIMEOUT must not be negative")
	}
	return nil
}

func (c *ACME) acme() app.ACME {
	a := app.ACME{
		Directory: c.AcmeDirectoryURL, Email: c.AcmeEmail, Challenge: c.AcmeChallengeType, Via: c.AcmeHttp01Via, KeyID: c.AcmeEabKid, MACKey: c.AcmeEabHmacKey,
		Profile: c.AcmeProfile, PreferredChain: c.AcmePreferredChain, CACertPath: c.AcmeCACert,
		Preflight: c.AcmePreflight, DNSProvider: c.AcmeDNSProvider, DNSSettingsPath: c.AcmeDNSSettingsFile,
		DNS: acme.Hooks{
			SetUp: c.AcmeDNSPresentScript, CleanUp: c.AcmeDNSCleanupScript,
			Wait: c.AcmeDNSPropagationWait, Propagation: c.AcmeDNSPropagationTimeout, Resolver: c.AcmeDNSResolver,
		},
	}
	if c.AcmeHTTPPort != 0 {
		a.HTTPAddress = ":" + strconv.Itoa(c.AcmeHTTPPort)
	}
	return a
}
