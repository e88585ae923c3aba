// Package admin holds the operator's tools, which work on the data folder of an
// installation rather than through its API.
package admin

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/certctl/certctl/services/certctl/internal/up"
)

// tool is one of them.
type tool struct {
	name, args, summary string
	run                 func(ctx context.Context, t *toolbox, args []string) error
}

// toolbox is what a tool works with.
type toolbox struct {
	cfg up.Config
	out io.Writer
	log *slog.Logger
}

func tools() []tool {
	return []tool{
		{"audit verify", "[--export FILE] [--key FILE] [--checkpoints FILE] [--partial]", "read the whole audit chain, or an export of it, and tell whether it is intact", verifyAudit},
		{"streams plan", "", "show what differs between the streams and what they should be", planStreams},
		{"streams apply", "", "make the streams what they should be", applyStreams},
		{"replay", "SINCE", "publish again what was published since a time, or how long ago", replay},
		{"nats-config", "", "print the configuration of a NATS server of your own", printNATSConfig},
		{"create-key", "NAME ROLES", "make an API key when none is at hand, with roles such as admin or viewer,auditor", createKey},
		{"sample-data add", "", "add a made-up inventory to look around in, with every id saying that it is a sample", addSample},
		{"sample-data remove", "", "take the made-up inventory away again", removeSample},
		{"credentials", "SERVICE DIR", "write what a service needs to run apart into a folder", writeCredentials},
	}
}

// Run carries out one tool.
func Run(ctx context.Context, args []string, out io.Writer, log *slog.Logger) error {
	line := strings.Join(args, " ")
	if line == "" || line == "help" {
		return help(out)
	}
	for _, t := range tools() {
		words := strings.Fields(t.name)
		if len(args) < len(words) || !slices.Equal(args[:len(words)], words) {
			continue
		}
		given := args[len(words):]
		// A tool with options reads them by itself.
		optional := strings.HasPrefix(t.args, "[")
		if !optional && asksForHelp(given) {
			fmt.Fprintf(out, "certctl admin %s: %s.\n", strings.TrimSpace(t.name+" "+t.args), t.summary)
			return flag.ErrHelp
		}
		if want := len(strings.Fields(t.args)); len(given) != want && !optional {
			return fmt.Errorf("usage: certctl admin %s", strings.TrimSpace(t.name+" "+t.args))
		}
		cfg, err := up.Load(log)
		if err != nil {
			return err
		}
		return t.run(ctx, &toolbox{cfg: cfg, out: out, log: log}, given)
	}
	if asksForHelp(args) {
		return help(out)
	}
	return fmt.Errorf("no tool %q; certctl admin help lists the tools", line)
}

func asksForHelp(args []string) bool {
	return slices.Contains(args, "--help") || slices.Contains(args, "-h")
}

func help(out io.Writer) error {
	fmt.Fprint(out, "certctl admin works on the installation whose data folder is CERTCTL_DATA_DIR.\n\nTools:\n")
	for _, t := range tools() {
		fmt.Fprintf(out, "  %-28s %s\n", strings.TrimSpace(t.name+" "+t.args), t.summary)
	}
	return flag.ErrHelp
}
