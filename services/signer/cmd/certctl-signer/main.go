// Command certctl-signer lets the issuer sign with keys that are in a PKCS#11 token. See package signer and
// docs/how-to/hsm.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/services/signer"
)

const usage = `certctl-signer lets the issuer of this machine sign with keys that are in a PKCS#11 token.

Usage:
  certctl-signer                                                       serve until stopped
  certctl-signer keys                                                  list the keys of the token
  certctl-signer generate --label L [--algorithm ECDSA] [--bits 256]   make a key in the token
  certctl-signer csr --label L --common-name N [--organization O]      ask another CA to certify a key of the token

It is configured by its environment:

`

const prefix = "CERTCTL"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "certctl-signer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, diagnostics io.Writer) error {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "-h", "--help", "help":
		return help(out)
	case "--version", "version":
		_, err := fmt.Fprintln(out, "certctl-signer", signer.Version())
		return err
	default:
	}
	var cfg signer.Config
	flags := flag.NewFlagSet("certctl-signer "+command, flag.ContinueOnError)
	flags.SetOutput(diagnostics)
	label := flags.String("label", "", "label of the key")
	act, ok := map[string]func() func() error{
		"": func() func() error {
			return func() error {
				log, err := cfg.Logger(diagnostics)
				if err != nil {
					return err
				}
				return signer.Run(ctx, cfg, log)
			}
		},
		"keys": func() func() error { return func() error { return signer.Keys(cfg, out) } },
		"generate": func() func() error {
			algorithm := flags.String("algorithm", "ECDSA", "ECDSA or RSA")
			bits := flags.Int("bits", 256, "256 or 384 of ECDSA; 2048, 3072 or 4096 of RSA")
			return func() error { return signer.Generate(cfg, *label, *algorithm, *bits, out) }
		},
		"csr": func() func() error {
			name := flags.String("common-name", "", "name of the CA")
			organization := flags.String("organization", "", "its organization")
			return func() error { return signer.Request(cfg, *label, *name, *organization, out) }
		},
	}[command]
	if !ok {
		return fmt.Errorf("unknown command %q; see certctl-signer --help", command)
	}
	do := act()
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see certctl-signer --help", strings.Join(flags.Args(), " "))
	}
	if err := config.Load(prefix, &cfg); err != nil {
		return err
	}
	return do()
}

func help(out io.Writer) error {
	vars, err := config.Describe(prefix, &signer.Config{})
	if err != nil {
		return err
	}
	fmt.Fprint(out, usage)
	for _, v := range vars {
		fmt.Fprintf(out, "  %s\n        %s\n", v.Name, v.Description)
		if v.Default != "" {
			fmt.Fprintf(out, "        Default: %s\n", v.Default)
		}
	}
	return nil
}
