// Command certctl-leaf is a site's side of the bus: the NATS server that the site's
// agents connect to, and the one connection from the site to the hub.
//
// It is configured by environment variables; --help lists them. It enrols at its first
// start with the one-time token of the site, and needs none later. SIGINT and SIGTERM
// stop it; it may also be killed at any time.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/services/leaf"
)

const prefix = "CERTCTL_LEAF"

// A leaf sits on small hosts and is idle most of the time: it rather collects more
// often than keeps what a burst of work has left. GOMEMLIMIT and GOGC win.
const (
	memoryLimit = 128 << 20
	gcPercent   = 50
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "certctl-leaf:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("certctl-leaf", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { usage(out) }
	version := flags.Bool("version", false, "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if *version {
		info, _ := debug.ReadBuildInfo()
		_, err := fmt.Fprintln(out, "certctl-leaf", info.Main.Version)
		return err
	}
	var c leaf.Config
	if err := config.Load(prefix, &c); err != nil {
		return err
	}
	spareMemory()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return leaf.Run(ctx, c)
}

func spareMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

func usage(out io.Writer) {
	fmt.Fprint(out, `certctl-leaf connects the agents of a site to certctl.

Usage: certctl-leaf [--version] [--help]

It is configured by environment variables. At its first start it needs
CERTCTL_LEAF_TOKEN and CERTCTL_LEAF_GATEWAY_URL to enrol; afterwards neither.

`)
	vars, err := config.Describe(prefix, new(leaf.Config))
	if err != nil {
		fmt.Fprintln(out, err)
		return
	}
	for _, v := range vars {
		fmt.Fprintf(out, "  %s=%s\n      %s\n", v.Name, cmp.Or(v.Default, "<"+v.Type+">"), v.Description)
		if v.Secret {
			fmt.Fprintf(out, "      Or %s_FILE, the name of a file that holds it.\n", strings.TrimSpace(v.Name))
		}
	}
}
