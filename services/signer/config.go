package signer

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/certctl/certctl/services/signer/internal/token"
)

// Config is read from CERTCTL_*.
type Config struct {
	SignerModule      string `split_words:"true" desc:"The PKCS#11 library of the token's maker, such as /usr/lib/softhsm/libsofthsm2.so."`
	SignerToken       string `split_words:"true" desc:"Label of the token."`
	SignerPINFile     string `split_words:"true" desc:"File with the PIN of the token's user; mode 0600."`
	SignerSocket      string `split_words:"true" default:"/run/certctl-signer/signer.sock" desc:"Unix socket that is served. Not looked at if systemd hands over a socket."`
	SignerClient      string `split_words:"true" desc:"User, by name or id, whose processes may connect: that of the issuer. The signer's own if empty."`
	SignerSessions    int    `split_words:"true" default:"8" desc:"How many operations the token is asked for at once."`
	SignerLabelPrefix string `split_words:"true" desc:"What the labels of keys begin with that may be used; for a token that holds keys of others."`
	LogLevel          string `split_words:"true" default:"info" desc:"debug, info, warn or error."`
	LogFormat         string `split_words:"true" default:"json" desc:"json or text."`
}

const maxSessions = 256

// Validate implements the check of libs/config.
func (c *Config) Validate() error {
	var wrong []error
	for name, path := range map[string]string{"CERTCTL_SIGNER_MODULE": c.SignerModule, "CERTCTL_SIGNER_PIN_FILE": c.SignerPINFile} {
		switch {
		case path == "":
			wrong = append(wrong, errors.New(name+" is not set"))
		case !filepath.IsAbs(path):
			wrong = append(wrong, errors.New(name+" must be an absolute path"))
		default:
		}
	}
	if c.SignerToken == "" {
		wrong = append(wrong, errors.New("CERTCTL_SIGNER_TOKEN is not set"))
	}
	if c.SignerSessions < 1 || c.SignerSessions > maxSessions {
		wrong = append(wrong, fmt.Errorf("CERTCTL_SIGNER_SESSIONS must be from 1 to %d", maxSessions))
	}
	if _, err := c.client(); err != nil {
		wrong = append(wrong, err)
	}
	if _, err := c.Logger(io.Discard); err != nil {
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

// client returns the id of the user that may connect.
func (c *Config) client() (int, error) {
	if c.SignerClient == "" {
		return os.Geteuid(), nil
	}
	if uid, err := strconv.Atoi(c.SignerClient); err == nil && uid >= 0 {
		return uid, nil
	}
	u, err := user.Lookup(c.SignerClient)
	if err != nil {
		return 0, fmt.Errorf("CERTCTL_SIGNER_CLIENT: there is no user %s here", c.SignerClient)
	}
	return strconv.Atoi(u.Uid)
}

func (c *Config) token() token.Config {
	return token.Config{
		Module: c.SignerModule, Label: c.SignerToken, PINFile: c.SignerPINFile, Sessions: c.SignerSessions, Prefix: c.SignerLabelPrefix,
	}
}

// Logger is plain slog: libs/obs brings tracing and its network clients, which a process with a PIN is better without.
func (c *Config) Logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, fmt.Errorf("CERTCTL_LOG_LEVEL: %q is none of debug, info, warn, error", c.LogLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch strings.ToLower(c.LogFormat) {
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)).With("service", "signer"), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)).With("service", "signer"), nil
	default:
		return nil, fmt.Errorf("CERTCTL_LOG_FORMAT: %q is neither json nor text", c.LogFormat)
	}
}
