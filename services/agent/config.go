package agent

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"github.com/certctl/certctl/services/agent/internal/link"
)

// Config is what an agent is told by its environment, each variable with the prefix
// CERTCTL_. The zero value is not of use; libs/config fills in the defaults.
type Config struct {
	AgentName string `split_words:"true" desc:"Name shown to people. Empty is the host's name."`
	KeyDir    string `split_words:"true" default:"/var/lib/certctl/keys" desc:"Where private keys are made and kept, mode 0600."`

	AgentStateDir string `split_words:"true" default:"/var/lib/certctl/agent" desc:"Identity, journal and spool. One agent to a directory."`

	LeafURL    string `split_words:"true" default:"nats://127.0.0.1:4223" desc:"The site's leaf. Off loopback it must be tls:// or wss://."`
	LeafCAFile string `split_words:"true" desc:"PEM certificates that the leaf's certificate must chain to. Empty trusts the system's."`

	EnrolmentToken string `split_words:"true" secret:"true" desc:"One-time token (cet_...) that makes this host an agent. Ignored once it is one."`

	AgentHeartbeatInterval time.Duration `split_words:"true" default:"60s" desc:"How often the agent says that it lives."`

	AgentAllowedCommands []string `split_words:"true" desc:"Absolute paths of commands that targets may name besides nginx, openresty, systemctl and service of the system."`
	AgentAllowedPaths    []string `split_words:"true" desc:"Folders that certificates and keys may be installed under. Empty is any, but a file that is there and is no PEM is never replaced."`

	AgentHttp01Address string `split_words:"true" desc:"host:port, such as :80, on which this host answers ACME CAs over HTTP-01 while there is something to prove. Empty is not to."` //nolint:staticcheck // the variable is to be _HTTP01_, and HTTP01 would be split into HTT and P01
	AgentHttp01Webroot string `split_words:"true" desc:"Folder that a web server of this host serves as /, to leave the answers in instead."`                                          //nolint:staticcheck // the variable is to be _HTTP01_, and HTTP01 would be split into HTT and P01

	LogLevel  string `split_words:"true" default:"info" desc:"debug, info, warn or error."`
	LogFormat string `split_words:"true" default:"json" desc:"json or text."`
}

// Validate refuses what can never work.
func (c *Config) Validate() error {
	var errs []error
	for name, path := range map[string]string{"CERTCTL_KEY_DIR": c.KeyDir, "CERTCTL_AGENT_STATE_DIR": c.AgentStateDir} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", name, path))
		}
	}
	for name, paths := range map[string][]string{
		"CERTCTL_AGENT_ALLOWED_COMMANDS": c.AgentAllowedCommands, "CERTCTL_AGENT_ALLOWED_PATHS": c.AgentAllowedPaths,
	} {
		for _, path := range paths {
			if !filepath.IsAbs(path) {
				errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", name, path))
			}
		}
	}
	if c.AgentHttp01Address != "" && c.AgentHttp01Webroot != "" {
		errs = append(errs, errors.New("CERTCTL_AGENT_HTTP01_ADDRESS and CERTCTL_AGENT_HTTP01_WEBROOT: set one of the two"))
	}
	if _, _, err := net.SplitHostPort(c.AgentHttp01Address); c.AgentHttp01Address != "" && err != nil {
		errs = append(errs, fmt.Errorf("CERTCTL_AGENT_HTTP01_ADDRESS: %q is not of the form host:port or :port", c.AgentHttp01Address))
	}
	if c.AgentHttp01Webroot != "" && !filepath.IsAbs(c.AgentHttp01Webroot) {
		errs = append(errs, fmt.Errorf("CERTCTL_AGENT_HTTP01_WEBROOT: %q is not an absolute path", c.AgentHttp01Webroot))
	}
	if c.AgentHeartbeatInterval < time.Second {
		errs = append(errs, errors.New("CERTCTL_AGENT_HEARTBEAT_INTERVAL: at least 1s"))
	}
	if err := link.CheckURL(c.LeafURL); err != nil {
		shown := c.LeafURL
		if u, parseErr := url.Parse(shown); parseErr == nil {
			shown = u.Redacted()
		}
		errs = append(errs, fmt.Errorf("CERTCTL_LEAF_URL: %s: %w", shown, err))
	}
	return errors.Join(errs...)
}
