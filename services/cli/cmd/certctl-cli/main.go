// Command certctl-cli is certctl at the command line; see package cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/certctl/certctl/services/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	streams := cli.Streams{Out: os.Stdout, Err: os.Stderr}
	if stdin := int(os.Stdin.Fd()); term.IsTerminal(stdin) {
		streams.Ask = func(prompt string) (string, error) {
			if _, err := os.Stderr.WriteString(prompt); err != nil {
				return "", err
			}
			typed, err := term.ReadPassword(stdin)
			_, _ = os.Stderr.WriteString("\n")
			return string(typed), err
		}
	}
	code := cli.Run(ctx, os.Args[1:], streams, os.Getenv)
	stop()
	os.Exit(code)
}
