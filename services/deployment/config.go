package deployment

import (
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natsauth"
)

// Config is read from CERTCTL_*.
type Config struct {
	AgentHeartbeatInterval time.Duration `split_words:"true" default:"60s" desc:"How often agents report in. An agent that misses three reports is Offline."`

	DeploymentMaxAttempts   int           `split_words:"true" default:"3" desc:"How often a deployment is tried before it is given up."`
	DeploymentRetryBase     time.Duration `split_words:"true" default:"15s" desc:"Wait after the first failed attempt; it doubles with each further one."`
	DeploymentRetryCap      time.Duration `split_words:"true" default:"15m" desc:"Longest wait between two attempts."`
	DeploymentOrderLife     time.Duration `split_words:"true" default:"168h" desc:"How long an agent that is away may still carry out an order."`
	DeploymentOrderDeadline time.Duration `split_words:"true" default:"1m" desc:"When an unanswered order is sent again; it doubles each time, up to six hours."`
	DeploymentSweepInterval time.Duration `split_words:"true" default:"15s" desc:"Safety sweep over due work. Commits and reports wake the work without it."`

	// Only a process of its own reads these: it makes Edge of them.
	DeploymentEdgeURL             string   `split_words:"true" desc:"NATS servers for account EDGE; those of CERTCTL_NATS_URL if empty."`
	DeploymentEdgeCredsFile       string   `split_words:"true" desc:"Credentials of this service in account EDGE."`
	DeploymentEdgeSigningKeysFile string   `split_words:"true" desc:"Scoped signing keys of account EDGE, as JSON, mode 0600."`
	DeploymentEdgeAccountJWTFile  string   `split_words:"true" desc:"JWT of account EDGE as it was when the installation was made; newer ones come from the authority."`
	DeploymentHubAddresses        []string `split_words:"true" desc:"Where leaves reach the hub, such as tls://hub.example.org:7422."`
	DeploymentLocalLeafKey        string   `split_words:"true" desc:"Public key of the leaf that certctl up runs for site-local; certctl admin credentials writes it."`

	// Edge is the service's side of account EDGE.
	Edge Edge `ignored:"true"`
}

// Edge is what the service holds of account EDGE, where leaves and agents are.
type Edge struct {
	// Bus is the service's own connection in EDGE.
	Bus *bus.Conn
	// Signer makes the JWTs of agents and leaves.
	Signer *natsauth.EdgeSigner
	// AccountJWT is the newest JWT of EDGE that the caller knows; one that the schema
	// holds and that is newer wins.
	AccountJWT string
	// HubURLs is where leaves reach the hub. Sites cannot enrol while it is empty.
	HubURLs []string
	// LocalLeafKey is the public nkey of the leaf that the caller runs for site-local;
	// empty if there is none.
	LocalLeafKey string
}

// Validate implements the check of libs/config.
func (c *Config) Validate() error {
	for name, d := range map[string]time.Duration{
		"CERTCTL_AGENT_HEARTBEAT_INTERVAL":  c.AgentHeartbeatInterval,
		"CERTCTL_DEPLOYMENT_RETRY_BASE":     c.DeploymentRetryBase,
		"CERTCTL_DEPLOYMENT_RETRY_CAP":      c.DeploymentRetryCap,
		"CERTCTL_DEPLOYMENT_ORDER_LIFE":     c.DeploymentOrderLife,
		"CERTCTL_DEPLOYMENT_ORDER_DEADLINE": c.DeploymentOrderDeadline,
		"CERTCTL_DEPLOYMENT_SWEEP_INTERVAL": c.DeploymentSweepInterval,
	} {
		if d <= 0 {
			return fmt.Errorf("%s must be more than zero", name)
		}
	}
	if c.DeploymentMaxAttempts < 1 {
		return errors.New("CERTCTL_DEPLOYMENT_MAX_ATTEMPTS must be at least 1")
	}
	return nil
}

func (e Edge) validate() error {
	switch {
	case e.Bus == nil:
		return errors.New("deployment needs a connection in account EDGE")
	case e.Signer == nil:
		return errors.New("deployment needs the signing keys of account EDGE")
	case e.AccountJWT == "":
		return errors.New("deployment needs the JWT of account EDGE")
	}
	return nil
}
