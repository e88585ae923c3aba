package service

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/certctl/certctl/libs/config"
)

const prefix = "CERTCTL"

// Settings is what every service process reads besides its own configuration.
type Settings struct {
	NatsURL          string `split_words:"true" desc:"NATS servers, separated by commas."`
	NatsCredsFile    string `split_words:"true" desc:"NATS credentials of the service in account CORE."`
	DatabaseURL      string `split_words:"true" secret:"true" desc:"Postgres, as the service's own role."`
	DatabaseMaxConns int32  `split_words:"true" default:"8" desc:"Connections to Postgres."`
	SealingKeyFile   string `split_words:"true" desc:"File of the sealing keys, one a line in base64, the current one first; mode 0600."`
	LogLevel         string `split_words:"true" default:"info" desc:"debug, info, warn or error."`
	LogFormat        string `split_words:"true" default:"json" desc:"json or text."`
}

// Validate refuses settings without which no service can work.
func (s *Settings) Validate() error {
	var missing []error
	if s.NatsURL == "" {
		missing = append(missing, errors.New("CERTCTL_NATS_URL is not set"))
	}
	if s.DatabaseURL == "" {
		missing = append(missing, errors.New("CERTCTL_DATABASE_URL is not set"))
	}
	// What is done in a transaction may have to ask for something beside it.
	if s.DatabaseMaxConns < 2 {
		missing = append(missing, errors.New("CERTCTL_DATABASE_MAX_CONNS must be at least 2"))
	}
	return errors.Join(missing...)
}

// probes is read with the service's name in the prefix, since several services may share a host.
type probes struct {
	HealthAddr string `split_words:"true" desc:"host:port that answers /health, /ready and /metrics over plain HTTP. Not served if empty."`
}

func probePrefix(name string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Variables lists what the process of the service called name reads from its environment, cfg being its configuration.
func Variables(name string, cfg any) ([]config.Var, error) {
	var all []config.Var
	for _, part := range []struct {
		prefix string
		into   any
	}{{prefix, &Settings{}}, {probePrefix(name), &probes{}}, {prefix, cfg}} {
		vars, err := config.Describe(part.prefix, part.into)
		if err != nil {
			return nil, err
		}
		all = append(all, vars...)
	}
	return all, nil
}

func warnOfUnknown(log *slog.Logger, vars []config.Var) {
	for _, u := range config.Unknown(prefix, vars) {
		if u.Nearest == "" {
			log.Warn("unknown variable in the environment", "name", u.Name)
			continue
		}
		log.Warn("unknown variable in the environment", "name", u.Name, "nearest", u.Nearest)
	}
}

func printUsage(w io.Writer, name string, vars []config.Var) {
	fmt.Fprintf(w, "%s takes no arguments; it is configured by its environment:\n\n", name)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range vars {
		note := v.Description
		if v.Default != "" {
			note += " Default: " + v.Default + "."
		}
		if v.Secret {
			note += " May be read from the file named by " + v.Name + "_FILE."
		}
		fmt.Fprintf(t, "  %s\t%s\n", v.Name, note)
	}
	// Whoever asked for help and closed the pipe has seen enough.
	_ = t.Flush()
}
