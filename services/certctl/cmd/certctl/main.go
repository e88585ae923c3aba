// Command certctl runs a whole installation, plays the demonstration, and holds the
// operator's tools.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/certctl/internal/admin"
	"github.com/certctl/certctl/services/certctl/internal/collector"
	"github.com/certctl/certctl/services/certctl/internal/up"
)

const usage = `certctl runs the whole life of an organisation's TLS certificates.

Usage:
  certctl up [--without SERVICE]...   run every service, NATS and Postgres in this process
  certctl demo [--once]               play the main story: request, key, sign, install, verify, renew
  certctl admin COMMAND               the operator's tools; certctl admin help lists them
  certctl config                      list the settings and what they are for
  certctl version                     print the version

Settings come from the environment (CERTCTL_*). Without any, certctl up keeps its data in
/var/lib/certctl (as root) or ~/.local/share/certctl and answers at http://127.0.0.1:8080.
`

var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "certctl:", obs.Redact(err.Error()))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	command := "help"
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "up":
		return runUp(ctx, args)
	case "demo":
		return runDemo(ctx, args)
	case "admin":
		return admin.Run(ctx, args, os.Stdout, logger("warn"))
	case "config":
		return printConfig(os.Stdout)
	case "version", "--version":
		fmt.Println("certctl", obs.Version())
		return nil
	case "help", "--help", "-h":
		fmt.Print(usage)
		return nil
	default:
		fmt.Fprintf(os.Stderr, "certctl: no command %q\n\n%s", command, usage)
		return errUsage
	}
}

// logger writes to standard error. The demonstration wants it quiet.
func logger(level string) *slog.Logger {
	if l := os.Getenv("CERTCTL_LOG_LEVEL"); l != "" {
		level = l
	}
	log, err := obs.NewLogger(os.Stderr, level, os.Getenv("CERTCTL_LOG_FORMAT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "certctl:", err)
		os.Exit(2)
	}
	return log
}

func runUp(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("certctl up", flag.ContinueOnError)
	var without []string
	flags.Func("without", "a service that runs apart; may be given again", func(v string) error {
		without = append(without, strings.Split(v, ",")...)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return usageError(err)
	}
	if os.Getenv("GOGC") == "" {
		// Collecting a small heap half as often as Go would spares a tenth of a list's time.
		go collector.Run(ctx)
	}
	log := logger("info")
	stopTracing, err := obs.StartTracing(ctx, "certctl")
	if err != nil {
		return err
	}
	defer func() { _ = stopTracing(context.WithoutCancel(ctx)) }()
	cfg, err := up.Load(log)
	if err != nil {
		return err
	}
	cfg.Without = without
	release, err := up.Exclusive(cfg.Platform)
	if err != nil {
		return err
	}
	defer release()
	return up.Run(ctx, cfg, log, func(r up.Ready) {
		fmt.Printf("certctl is up after %s\n", r.Took.Round(time.Millisecond))
		if r.URL != "" {
			fmt.Printf("  API            %s\n", r.URL)
		}
		if _, err := os.Stat(r.AdminKeyFile); err == nil {
			fmt.Printf("  first API key  %s (mode 0600; keep it elsewhere and remove the file)\n", r.AdminKeyFile)
		}
		fmt.Printf("  agents         %s\n", r.LeafURL)
	})
}

func usageError(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return errUsage
}

func printConfig(w io.Writer) error {
	vars, err := up.Describe()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range vars {
		value := v.Default
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.Name, value, v.Description)
	}
	return t.Flush()
}
