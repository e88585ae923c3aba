// Package cli is certctl at the command line: a thin client of the HTTP API, whose
// output is a table for people or the API's own JSON for programs.
//
// It keeps no state. CERTCTL_SERVER_URL and CERTCTL_API_KEY, or the flags --server and
// --api-key, say where to and as whom; CERTCTL_API_KEY_FILE names a file instead of
// the key. The exit code is 0 for success, 1 if the server refused or was not reached,
// 2 if the command line was wrong.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Version is set by the build.
var Version = "dev"

// Streams are where output goes.
type Streams struct {
	Out, Err io.Writer
	// Ask shows a prompt to a person and returns what they type, which is not shown. Nil is nobody to ask.
	Ask func(prompt string) (string, error)
}

// errUsage marks a command line that was wrong; the message has been printed.
var errUsage = errors.New("usage")

const defaultServer = "http://127.0.0.1:8080"

// command is one verb.
type command struct {
	name, args, summary string
	run                 func(ctx context.Context, s *session, args []string) error
}

func commands() []command {
	return []command{
		{"list-certs", "[--status S] [--issuer-id I] [--q EXPRESSION] [--limit N]", "list certificates", listCerts},
		{"get-cert", "ID", "show a certificate and its versions", getCert},
		{"create-cert", "NAME [--san NAME]... [--issuer-id ID] [--target ID]... [--csr FILE]", "manage a certificate and have it issued", createCert},
		{"import", "FILE... [--dry-run] [--keep-key [--exportable]] [--password-file F] [--type T] [--environment E] [--tag N=V]...", "manage certificates that exist already", importCerts},
		{"export-cert", "ID [--as pem|der|pkcs7|pkcs12|jks] [--out FILE] [--with-key [--password-file F]] [--version-id V]", "write a certificate to a file, with or without its key", exportCert},
		{"fetch-key", "ID --out FILE [--version-id V]", "fetch, once, a private key that the server has made", fetchKey},
		{"renew-cert", "ID [--csr FILE]", "renew a certificate now", renewCert},
		{"preflight", "ISSUER-ID NAME...", "tell what would keep an issuer from issuing for names", preflight},
		{"list-agents", "[--status S] [--q EXPRESSION]", "list agents", listAgents},
		{"list-jobs", "[--status S] [--type T] [--cert ID] [--q EXPRESSION] [--limit N]", "list jobs, newest first", listJobs},
		{"list-issuers", "[--limit N]", "list issuers, and until when their CAs hold", listIssuers},
		{"list-ca-keys", "ISSUER", "list the keys of a Local CA", listCAKeys},
		{"rollover-issuer", "ISSUER [--cross-sign] [--common-name N] [--key-algorithm A] [--days N]", "give a Local CA a new key and certificate", rollOverIssuer},
		{"activate-ca-key", "ISSUER KEY", "have a Local CA sign with another of its keys", activateCAKey},
		{"ca-request", "ISSUER [--new]", "print the certificate request of a Local CA's key, for a root elsewhere to sign", caRequest},
		{"ca-certificate", "ISSUER FILE", "hand in the certificate that was signed for such a request", caCertificate},
		{"list-keys", "[--all] [--limit N]", "list API keys, newest first", listKeys},
		{"create-key", "NAME --role R... [--team T]... [--environment E]... [--issuer-id I]... [--profile-id P]... [--expires-in D]", "make an API key, and show it once", createKey},
		{"rotate-key", "ID [--overlap D]", "replace an API key, and show the new one once", rotateKey},
		{"revoke-key", "ID", "revoke an API key at once", revokeKey},
		{"list-blocked-keys", "[--limit N]", "list the keys that are not certified, newest first", listBlockedKeys},
		{"block-key", "SHA256|FILE --reason R [--comment T]", "have a key never certified again", blockKey},
		{"unblock-key", "SHA256", "let a key be certified again", unblockKey},
		{"campaigns", "plan|create|start|pause|resume|stop|retry|status|report|list ...", "re-issue many certificates in order", campaigns},
		{"health", "", "tell whether the server is well", health},
		{"version", "", "print the version", printVersion},
	}
}

// session is one run of the program.
type session struct {
	Streams
	flags  *flag.FlagSet
	usage  func(io.Writer)
	server string
	key    string
	json   bool
	// every is how often what is watched is asked for.
	every  time.Duration
	getenv func(string) string
}

// Run carries out one command line and returns the exit code.
func Run(ctx context.Context, args []string, streams Streams, getenv func(string) string) int {
	err := run(ctx, args, streams, getenv)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		// Errors quote what the server and others said.
		fmt.Fprintln(streams.Err, "certctl-cli:", harmless(err.Error()))
		return 1
	}
}

func run(ctx context.Context, args []string, streams Streams, getenv func(string) string) error {
	s := &session{Streams: streams, getenv: getenv, flags: flag.NewFlagSet("certctl-cli", flag.ContinueOnError)}
	s.usage = usage
	s.common(s.flags)
	if err := s.parse(args); err != nil {
		return err
	}
	rest := s.flags.Args()
	if len(rest) == 0 {
		usage(streams.Err)
		return errUsage
	}
	if rest[0] == "help" {
		return help(ctx, streams, rest[1:])
	}
	c, err := find(streams, rest[0])
	if err != nil {
		return err
	}
	s.use(c)
	return c.run(ctx, s, rest[1:])
}

// use prepares for a command, which adds its own flags.
func (s *session) use(c command) {
	s.flags = flag.NewFlagSet(c.name, flag.ContinueOnError)
	s.usage = func(w io.Writer) { commandUsage(w, c, s.flags) }
	s.common(s.flags)
}

// common adds the flags that every command takes, before or behind its name.
func (s *session) common(f *flag.FlagSet) {
	f.StringVar(&s.server, "server", first(s.server, s.getenv("CERTCTL_SERVER_URL"), defaultServer), "URL of the server")
	f.StringVar(&s.key, "api-key", first(s.key, s.getenv("CERTCTL_API_KEY")), "API key; better set CERTCTL_API_KEY or CERTCTL_API_KEY_FILE")
	f.Lookup("api-key").DefValue = "" // help must not show the key
	f.Func("format", "table or json (default table)", func(v string) error {
		if v != "table" && v != "json" {
			return errors.New("must be table or json")
		}
		s.json = v == "json"
		return nil
	})
}

// parse reads the flags at the beginning of args. Help that was asked for is output like
// any other.
func (s *session) parse(args []string) error {
	s.flags.SetOutput(s.Err)
	s.flags.Usage = func() {}
	switch err := s.flags.Parse(args); {
	case err == nil:
		return nil
	case errors.Is(err, flag.ErrHelp):
		s.usage(s.Out)
		return err
	default:
		s.usage(s.Err)
		return errUsage
	}
}

// arguments parses the command's flags, wherever they stand, and returns the rest,
// which must be as many as wanted.
func (s *session) arguments(args []string, want int) ([]string, error) {
	rest, err := s.operands(args)
	if err == nil && len(rest) != want {
		s.usage(s.Err)
		return nil, errUsage
	}
	return rest, err
}

// some is arguments where one is needed and more are welcome.
func (s *session) some(args []string) ([]string, error) {
	rest, err := s.operands(args)
	if err == nil && len(rest) == 0 {
		s.usage(s.Err)
		return nil, errUsage
	}
	return rest, err
}

// operands parses the command's flags, wherever they stand, and returns the rest.
func (s *session) operands(args []string) ([]string, error) {
	var rest []string
	for {
		if err := s.parse(args); err != nil {
			return nil, err
		}
		left := s.flags.Args()
		if parsed := len(args) - len(left); parsed > 0 && args[parsed-1] == "--" {
			// What stands behind it are arguments, whatever they look like.
			rest = append(rest, left...)
			break
		}
		if len(left) == 0 {
			break
		}
		rest, args = append(rest, left[0]), left[1:]
	}
	return rest, nil
}

func find(streams Streams, name string) (command, error) {
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
	}
	fmt.Fprintf(streams.Err, "certctl-cli: no command %q; certctl-cli help lists them\n", name)
	return command{}, errUsage
}

func help(ctx context.Context, streams Streams, args []string) error {
	if len(args) == 0 {
		usage(streams.Out)
		return nil
	}
	c, err := find(streams, args[0])
	if err != nil {
		return err
	}
	s := &session{Streams: streams, getenv: func(string) string { return "" }}
	s.use(c)
	err = c.run(ctx, s, append(slices.Clone(args[1:]), "--help"))
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

func usage(w io.Writer) {
	fmt.Fprint(w, "certctl-cli speaks to a certctl server.\n\nUsage:\n  certctl-cli [flags] COMMAND [arguments]\n\nCommands:\n")
	width := 0
	for _, c := range commands() {
		width = max(width, len(c.name))
	}
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-*s  %s\n", width, c.name, c.summary)
	}
	fmt.Fprintf(w, "  %-*s  %s\n", width, "help", "explain a command")
	fmt.Fprint(w, `
Flags:
  --server URL      the server (CERTCTL_SERVER_URL, default `+defaultServer+`)
  --api-key KEY     the API key (CERTCTL_API_KEY, or a file: CERTCTL_API_KEY_FILE)
  --format FORMAT   table or json
`)
}

func commandUsage(w io.Writer, c command, f *flag.FlagSet) {
	fmt.Fprintf(w, "%s.\n\nUsage:\n  certctl-cli %s\n\nFlags:\n", strings.ToUpper(c.summary[:1])+c.summary[1:], strings.TrimSpace(c.name+" "+c.args))
	f.SetOutput(w)
	f.PrintDefaults()
}

// apiKey is the key to use, from the flag, the environment or a file.
func (s *session) apiKey() (string, error) {
	if s.key != "" {
		return strings.TrimSpace(s.key), nil
	}
	if file := s.getenv("CERTCTL_API_KEY_FILE"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read CERTCTL_API_KEY_FILE: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	return "", errors.New("no API key: set CERTCTL_API_KEY or CERTCTL_API_KEY_FILE, or give --api-key (certctl up prints where the first admin key lies)")
}

func first(values ...string) string {
	i := slices.IndexFunc(values, func(v string) bool { return v != "" })
	if i < 0 {
		return ""
	}
	return values[i]
}

func date(t time.Time) string {
	if t.Year() <= 1 {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}
