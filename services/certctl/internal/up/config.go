package up

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/services/certctl/internal/platform"
)

// prefix of every variable.
const prefix = "CERTCTL"

// Load reads the configuration from the environment, and warns of variables that
// nothing reads.
func Load(log *slog.Logger) (Config, error) {
	var cfg Config
	parts := []any{&cfg.Platform, &cfg.Gateway, &cfg.Issuer, &cfg.Deployment, &cfg.Revocation, &cfg.Audit, &cfg.Leaf}
	var errs []error
	var known []config.Var
	for _, part := range parts {
		errs = append(errs, config.Load(prefix, part))
		vars, err := config.Describe(prefix, part)
		errs, known = append(errs, err), append(known, vars...)
	}
	for _, name := range []string{
		"CERTCTL_LOG_LEVEL", "CERTCTL_LOG_FORMAT", "CERTCTL_API_KEY", "CERTCTL_API_KEY_FILE", "CERTCTL_SERVER_URL", "CERTCTL_NGINX_BIN",
		// Of certctl-signer, which is tried out from the same shell.
		"CERTCTL_SIGNER_MODULE", "CERTCTL_SIGNER_TOKEN", "CERTCTL_SIGNER_PIN_FILE", "CERTCTL_SIGNER_CLIENT", "CERTCTL_SIGNER_SESSIONS",
		"CERTCTL_SIGNER_LABEL_PREFIX",
	} {
		known = append(known, config.Var{Name: name})
	}
	for _, u := range config.Unknown(prefix, known) {
		if u.Nearest == "" {
			log.Warn("a variable is set that nothing reads", "name", u.Name)
		} else {
			log.Warn("a variable is set that nothing reads", "name", u.Name, "meant", u.Nearest)
		}
	}
	return cfg, errors.Join(append(errs, cfg.complete())...)
}

// complete fills in what depends on the machine.
func (c *Config) complete() (err error) {
	if c.Platform.DataDir == "" {
		if c.Platform.DataDir, err = DefaultDataDir(); err != nil {
			return err
		}
	}
	if c.Platform.DataDir, err = filepath.Abs(c.Platform.DataDir); err != nil {
		return err
	}
	if c.Platform.PeersDir, err = filepath.Abs(c.Platform.PeersDir); err != nil {
		return err
	}
	c.beReachedAt(os.LookupEnv)
	return nil
}

// beReachedAt has certificates point to where the gateway listens, unless somebody has said where relying parties reach it:
// on loopback that is the only place.
func (c *Config) beReachedAt(env func(string) (string, bool)) {
	ip := net.ParseIP(c.Gateway.ServerHost)
	if _, said := env("CERTCTL_PUBLIC_URL"); said || c.Gateway.ServerPort == 0 || ip == nil || !ip.IsLoopback() {
		return
	}
	at := url.URL{Scheme: "http", Host: net.JoinHostPort(c.Gateway.ServerHost, strconv.Itoa(c.Gateway.ServerPort))}
	if c.Gateway.ServerTLSCertFile != "" {
		at.Scheme = "https"
	}
	c.Issuer.PublicURL = at.String()
}

// Describe lists every variable, for documentation.
func Describe() ([]config.Var, error) {
	var cfg Config
	var all []config.Var
	for _, part := range []any{&cfg.Platform, &cfg.Gateway, &cfg.Issuer, &cfg.Deployment, &cfg.Revocation, &cfg.Audit, &cfg.Leaf} {
		vars, err := config.Describe(prefix, part)
		if err != nil {
			return nil, fmt.Errorf("describe the configuration: %w", err)
		}
		all = append(all, vars...)
	}
	return all, nil
}

// Exclusive makes sure that no other process uses the data folder.
func Exclusive(cfg platform.Config) (release func(), err error) {
	if err := os.MkdirAll(cfg.DataDir, 0o711); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	return lock(filepath.Join(cfg.DataDir, "lock"))
}
