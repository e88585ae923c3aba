// Command certctl-agent makes keys and installs certificates on the host it runs on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/certctl/certctl/libs/config"
	agent "github.com/certctl/certctl/services/agent"
	"github.com/certctl/certctl/services/agent/internal/host"
	"github.com/certctl/certctl/services/agent/internal/status"
)

const usage = `certctl-agent makes private keys and installs certificates on this host.

Usage:
  certctl-agent [flags]          enrol if needed, then work until stopped
  certctl-agent [flags] status   show who this agent is and what it has to do

It talks to its site's leaf and to nothing else. To enrol a host, make a token
(POST /api/v1/enrolment-tokens) and start the agent once with CERTCTL_ENROLMENT_TOKEN or
CERTCTL_ENROLMENT_TOKEN_FILE; after that the token is not needed any more.

Flags, and the variable that each overrides:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "certctl-agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, diagnostics io.Writer) error {
	var cfg agent.Config
	envErr := load(&cfg)
	flags, showVersion, err := define(&cfg, out)
	if err != nil {
		return err
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *showVersion {
		fmt.Fprintln(out, "certctl-agent", host.Version())
		return nil
	}
	if envErr != nil {
		return envErr
	}
	if flags.NArg() == 1 && flags.Arg(0) == "status" {
		return status.Write(out, cfg.AgentStateDir, cfg.LeafURL)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown command %q; see certctl-agent --help", flags.Arg(0))
	}
	log, err := logger(cfg, diagnostics)
	if err != nil {
		return err
	}
	warnOfUnknown(&cfg, log)
	frugal()
	return agent.Run(ctx, cfg, log)
}

// load reads the environment. A token's file that is gone is as it should be: the
// token was for one enrolment. A host that still needs it is told so later.
func load(cfg *agent.Config) error {
	err := config.Load("CERTCTL", cfg)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Unsetenv("CERTCTL_ENROLMENT_TOKEN_FILE"); err != nil {
			return err
		}
		*cfg = agent.Config{}
		return config.Load("CERTCTL", cfg)
	}
	return err
}

// define makes a flag of each variable but the token: arguments can be seen by
// everybody on the host.
func define(cfg *agent.Config, out io.Writer) (*flag.FlagSet, *bool, error) {
	vars, err := config.Describe("CERTCTL", cfg)
	if err != nil {
		return nil, nil, err
	}
	about := map[string]config.Var{}
	for _, v := range vars {
		about[v.Name] = v
	}
	fs := flag.NewFlagSet("certctl-agent", flag.ContinueOnError)
	fs.SetOutput(out)
	text := func(p *string, name, variable string) { fs.StringVar(p, name, *p, about[variable].Description) }
	list := func(p *[]string, name, variable string) {
		fs.Func(name, about[variable].Description, func(s string) error { *p = strings.Split(s, ","); return nil })
	}
	flagOf := map[string]string{}
	bind := func(name, variable string, target any) {
		flagOf[variable] = name
		switch p := target.(type) {
		case *string:
			text(p, name, variable)
		case *[]string:
			list(p, name, variable)
		}
	}
	bind("name", "CERTCTL_AGENT_NAME", &cfg.AgentName)
	bind("key-dir", "CERTCTL_KEY_DIR", &cfg.KeyDir)
	bind("state-dir", "CERTCTL_AGENT_STATE_DIR", &cfg.AgentStateDir)
	bind("leaf", "CERTCTL_LEAF_URL", &cfg.LeafURL)
	bind("leaf-ca", "CERTCTL_LEAF_CA_FILE", &cfg.LeafCAFile)
	bind("allowed-commands", "CERTCTL_AGENT_ALLOWED_COMMANDS", &cfg.AgentAllowedCommands)
	bind("allowed-paths", "CERTCTL_AGENT_ALLOWED_PATHS", &cfg.AgentAllowedPaths)
	bind("log-level", "CERTCTL_LOG_LEVEL", &cfg.LogLevel)
	bind("log-format", "CERTCTL_LOG_FORMAT", &cfg.LogFormat)
	const heartbeat = "CERTCTL_AGENT_HEARTBEAT_INTERVAL"
	flagOf[heartbeat] = "heartbeat"
	fs.DurationVar(&cfg.AgentHeartbeatInterval, "heartbeat", cfg.AgentHeartbeatInterval, about[heartbeat].Description)
	showVersion := fs.Bool("version", false, "")
	fs.Usage = func() {
		fmt.Fprint(out, usage)
		for _, v := range vars {
			explain(out, v, flagOf[v.Name])
		}
		fmt.Fprint(out, "  --version\n        Show the version.\n")
	}
	return fs, showVersion, nil
}

func explain(out io.Writer, v config.Var, name string) {
	line := v.Name
	if name != "" {
		line = "--" + name + "   " + v.Name
	}
	if v.Secret {
		line += " or " + v.Name + "_FILE"
	}
	fmt.Fprintf(out, "  %s\n        %s\n", line, v.Description)
	if v.Default != "" {
		fmt.Fprintf(out, "        Default: %s\n", v.Default)
	}
}

// logger is plain slog: libs/obs brings tracing and metrics, which would double this
// program's memory.
func logger(cfg agent.Config, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		return nil, fmt.Errorf("CERTCTL_LOG_LEVEL: %q is none of debug, info, warn, error", cfg.LogLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch strings.ToLower(cfg.LogFormat) {
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return nil, fmt.Errorf("CERTCTL_LOG_FORMAT: %q is neither json nor text", cfg.LogFormat)
}

// warnOfUnknown points out misspelled variables of the agent. Those of other programs
// may be set on the same host.
func warnOfUnknown(cfg *agent.Config, log *slog.Logger) {
	vars, err := config.Describe("CERTCTL", cfg)
	if err != nil {
		return
	}
	for _, s := range config.Unknown("CERTCTL", vars) {
		if s.Nearest != "" {
			log.Warn("environment variable is not known", "name", s.Name, "nearest", s.Nearest)
		}
	}
}

// frugal trades a little work of the collector for memory: an agent is a guest on its
// host, and idle nearly always.
func frugal() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
}
