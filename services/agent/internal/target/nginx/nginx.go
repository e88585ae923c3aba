// Package nginx installs certificates in NGINX and OpenResty on this host.
//
// The certificate file holds the leaf and its issuers, as ssl_certificate wants them;
// the issuers stand alone in a third file when the target names one, for
// ssl_trusted_certificate. The configuration is tested ("nginx -t") before the server
// reloads, which it does without dropping a connection, and a handshake proves the
// result. Everything else is package install's.
//
// What a target's configuration may make this host do is listed in [rules]: test and
// reload one server, and nothing more.
package nginx

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/agent/internal/install"
	"github.com/certctl/certctl/services/agent/internal/process"
	"github.com/certctl/certctl/services/agent/internal/served"
	"github.com/certctl/certctl/services/agent/internal/target"
)

const defaultAddress = "127.0.0.1:443"

// Config is a target's configuration. Paths are absolute.
type Config struct {
	// CertPath and KeyPath are required.
	CertPath string `json:"cert_path"`
	KeyPath  string `json:"key_path"`
	// ChainPath, if not empty, is written too.
	ChainPath string `json:"chain_path"`
	// ValidateCommand and ReloadCommand are "nginx -t" and "nginx -s reload" if empty.
	ValidateCommand string `json:"validate_command"`
	ReloadCommand   string `json:"reload_command"`
	// Binary, ConfigPath and Prefix shape those two; NGINX's own defaults if empty.
	Binary     string `json:"nginx_binary"`
	ConfigPath string `json:"config_path"`
	Prefix     string `json:"prefix"`
	// VerifyAddress is where the result is looked at, 127.0.0.1:443 if empty.
	VerifyAddress string `json:"verify_address"`
	// ServerName is asked for there; if empty, a name of the certificate.
	ServerName string `json:"server_name"`
}

// Kind is NGINX on this host.
type Kind struct {
	Installer install.Installer
	Commands  process.Policy
}

// Open reads a target's configuration.
func (k Kind) Open(raw json.RawMessage) (target.Target, error) {
	var c Config
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, target.Refuse("the target's configuration cannot be read: %w", err)
	}
	if c.CertPath == "" || c.KeyPath == "" {
		return nil, target.Refuse("the target's configuration needs cert_path and key_path")
	}
	for _, path := range []string{c.ConfigPath, c.Prefix} {
		if path != "" && !filepath.IsAbs(path) {
			return nil, target.Refuse("the path %q is not absolute", path)
		}
	}
	c.VerifyAddress = cmp.Or(c.VerifyAddress, defaultAddress)
	if _, _, err := net.SplitHostPort(c.VerifyAddress); err != nil {
		return nil, target.Refuse("verify_address %q is not host:port", c.VerifyAddress)
	}
	test, err := k.command(c.ValidateCommand, append(c.base(), "-t"))
	if err != nil {
		return nil, target.Refuse("validate_command: %w", err)
	}
	reload, err := k.command(c.ReloadCommand, append(c.base(), "-s", "reload"))
	if err != nil {
		return nil, target.Refuse("reload_command: %w", err)
	}
	return &server{config: c, installer: k.Installer, test: test, reload: reload}, nil
}

func (c Config) base() []string {
	argv := []string{cmp.Or(c.Binary, "nginx")}
	if c.Prefix != "" {
		argv = append(argv, "-p", c.Prefix)
	}
	if c.ConfigPath != "" {
		argv = append(argv, "-c", c.ConfigPath)
	}
	return argv
}

func (k Kind) command(line string, otherwise []string) (process.Command, error) {
	argv := otherwise
	if strings.TrimSpace(line) != "" {
		var err error
		if argv, err = process.Parse(line); err != nil {
			return process.Command{}, err
		}
	}
	return k.Commands.Resolve(argv, rules)
}

var unit = regexp.MustCompile(`^(nginx|openresty)([@.-][A-Za-z0-9@._-]*)?$`)

// rules say what a command of a target may do.
var rules = map[string]process.Rule{
	"nginx":     arguments,
	"openresty": arguments,
	"systemctl": process.Systemctl(unit),
	"service":   process.Service(unit),
}

// arguments lets NGINX be tested and reloaded with a configuration that is on the
// host. -g is refused since its directives could load code or write files anywhere, -T
// since it shows the whole configuration, -e unless it writes no file.
func arguments(args []string) string {
	const allowed = "nginx may -t, -q, -s reload, -c and -p with an absolute path, -e with stderr"
	for i := 0; i < len(args); i++ {
		value := ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		switch args[i] {
		case "-t", "-q":
			continue
		case "-s":
			if value != "reload" {
				return allowed
			}
		case "-e":
			if value != "stderr" && value != "/dev/null" {
				return allowed
			}
		case "-c", "-p":
			if !filepath.IsAbs(value) {
				return allowed
			}
		default:
			return allowed
		}
		i++
	}
	return ""
}

// server is one NGINX with one certificate.
type server struct {
	config       Config
	installer    install.Installer
	test, reload process.Command
}

// HoldsKey returns what is at the target's key_path.
func (s *server) HoldsKey() []byte { return s.installer.Places.Read(s.config.KeyPath) }

// Deploy installs the bundle and proves it.
func (s *server) Deploy(ctx context.Context, b target.Bundle, p target.Progress) (string, error) {
	plan := install.Plan{
		Files: []install.File{
			{Path: s.config.CertPath, Data: x509x.EncodeCertificates(b.Chain...)},
			{Path: s.config.KeyPath, Data: b.KeyPEM, Secret: true},
		},
		Test: s.test, Reload: s.reload,
		Address: s.config.VerifyAddress, ServerName: cmp.Or(s.config.ServerName, nameToAsk(b)),
		Fingerprint: b.Fingerprint,
	}
	if s.config.ChainPath != "" {
		issuers := b.Chain[1:]
		if len(issuers) == 0 {
			// NGINX refuses an empty file, and a leaf without issuers vouches for itself.
			issuers = b.Chain
		}
		plan.Files = append(plan.Files, install.File{Path: s.config.ChainPath, Data: x509x.EncodeCertificates(issuers...)})
	}
	return s.installer.Install(ctx, plan, p)
}

// Served asks the server once.
func (s *server) Served(ctx context.Context, b target.Bundle) (string, error) {
	fingerprint, err := served.Fingerprint(ctx, s.config.VerifyAddress, cmp.Or(s.config.ServerName, nameToAsk(b)))
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", s.config.VerifyAddress, err)
	}
	return fingerprint, nil
}

// Clear deletes what a finished Deploy kept.
func (s *server) Clear(p target.Progress) error { return s.installer.Clear(p) }

// nameToAsk is a name under which a server would show the leaf: its common name, else
// its first DNS name. Any host stands for a wildcard.
func nameToAsk(b target.Bundle) string {
	leaf := b.Leaf()
	for _, name := range append([]string{leaf.Subject.CommonName}, leaf.DNSNames...) {
		if rest, ok := strings.CutPrefix(name, "*."); ok {
			return "www." + rest
		}
		if names, err := x509x.ParseNames(name, nil); err == nil && len(names.Values(x509x.DNS)) == 1 {
			return name
		}
	}
	return ""
}
