// Package script issues certificates by programs of the operator's: a way to any CA that has no connector of its own.
//
// A program is run without a shell, in a process group that is killed when its time is up. It gets what it has to know
// in files and in its environment (docs/how-to/script-issuer.md lists them), and leaves its result in a file. What it
// leaves is held against what was asked for; what it prints is shown when it fails.
//
// An exit status of 2 says that this request will never be granted (Invalid); any other failure is one that may pass.
package script

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/process"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
)

// DefaultTimeout is how long a program may take.
const DefaultTimeout = 30 * time.Second

// never is the exit status of a program that will never do what it is asked.
const never = 2

// maxResult is more than any chain or list needs.
const maxResult = 64 << 20

// Config names the programs, each as an argument vector whose first part is an absolute path.
type Config struct {
	// Sign is required. Without Revoke or CRL the CA cannot do that.
	Sign, Revoke, CRL []string
	// Timeout is for each run; zero is DefaultTimeout.
	Timeout time.Duration
	// Chain is the CA's certificate and those above it, root last. Without it the chain is what the first answer shows,
	// and no answer is held against a root.
	Chain []*x509.Certificate
	// Lifetime is the most that is asked for; zero leaves it to the request, and then to the program.
	Lifetime time.Duration
}

// Authority is a CA behind programs. It is safe for concurrent use, and runs as many at once as it is asked for.
type Authority struct {
	config Config
	clock  clock.Clock
	shown  atomic.Pointer[[]*x509.Certificate] // the chain that an answer has shown
}

// Open checks the programs, without running any. Its error is Invalid and names the setting.
func Open(cfg Config, c clock.Clock) (*Authority, error) {
	var bad []fault.Field
	for _, p := range []struct {
		setting string
		argv    []string
	}{{"sign_script", cfg.Sign}, {"revoke_script", cfg.Revoke}, {"crl_script", cfg.CRL}} {
		if reason := objection(p.argv); reason != "" && (len(p.argv) > 0 || p.setting == "sign_script") {
			bad = append(bad, fault.Field{Name: p.setting, Reason: reason})
		}
	}
	if cfg.Timeout < 0 {
		bad = append(bad, fault.Field{Name: "timeout_seconds", Reason: "must not be negative"})
	}
	if len(bad) > 0 {
		return nil, fault.InvalidFields(bad...)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	return &Authority{config: cfg, clock: c}, nil
}

func objection(argv []string) string {
	if len(argv) == 0 || argv[0] == "" {
		return "is required"
	}
	return process.Objection(argv[0])
}

// Chain implements [ca.Issuer].
func (a *Authority) Chain() []*x509.Certificate {
	if a.config.Chain != nil {
		return a.config.Chain
	}
	if shown := a.shown.Load(); shown != nil {
		return *shown
	}
	return nil
}

// Issue implements [ca.Issuer].
func (a *Authority) Issue(ctx context.Context, r ca.Request) (ca.Issued, error) {
	r = r.Within(a.config.Lifetime)
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR.Raw})
	days := ""
	if r.Lifetime > 0 {
		days = strconv.Itoa(max(1, int(r.Lifetime/(24*time.Hour))))
	}
	result, err := a.run(ctx, "sign", a.config.Sign, map[string][]byte{"request.csr": csr}, "certificate.pem", []string{
		"CERTCTL_COMMON_NAME=" + r.CommonName,
		"CERTCTL_SANS=" + strings.Join(sans(r.Names), ","),
		"CERTCTL_LIFETIME_SECONDS=" + strconv.FormatInt(int64(r.Lifetime/time.Second), 10),
		"CERTCTL_LIFETIME_DAYS=" + days,
	})
	if err != nil {
		return ca.Issued{}, err
	}
	issued, err := ca.Accept(r, result, a.config.Chain, a.clock.Now())
	if err == nil && a.config.Chain == nil {
		if certs, err := x509x.ParseCertificates(result); err == nil && len(certs) > 1 {
			above := certs[1:]
			a.shown.Store(&above)
		}
	}
	return issued, err
}

// sans writes names as openssl does: DNS:www.example.com, IP:192.0.2.7.
func sans(names x509x.Names) []string {
	prefixes := map[x509x.NameKind]string{x509x.DNS: "DNS:", x509x.IP: "IP:", x509x.Email: "email:", x509x.URI: "URI:"}
	all := make([]string, 0, len(names))
	for _, n := range names {
		all = append(all, prefixes[n.Kind]+n.Value)
	}
	return all
}

// run carries out a program in a folder of its own, which goes afterwards, and returns what it left in the output file.
func (a *Authority) run(ctx context.Context, what string, argv []string, inputs map[string][]byte, output string, env []string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "certctl-"+what+"-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the %s script: %w", what, err)
	}
	defer os.RemoveAll(dir)
	args := append([]string(nil), argv[1:]...)
	for name, content := range inputs {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, fmt.Errorf("write the input of the %s script: %w", what, err)
		}
		args = append(args, path)
		env = append(env, "CERTCTL_INPUT_FILE="+path)
	}
	path := filepath.Join(dir, output)
	if output != "" {
		args = append(args, path)
		env = append(env, "CERTCTL_OUTPUT_FILE="+path)
	}
	_, err = process.Run(ctx, process.Command{Path: argv[0], Args: args, Env: env, Dir: dir}, a.config.Timeout)
	if err != nil {
		return nil, failure(what, err)
	}
	if output == "" {
		return nil, nil
	}
	return result(what, path)
}

func failure(what string, err error) error {
	code := fault.Unavailable
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == never {
		code = fault.Invalid
	}
	return fault.New(code, "the %s script failed: %v", what, err)
}

func result(what, path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Unavailable, "the %s script ended well and left nothing in CERTCTL_OUTPUT_FILE", what)
	case err != nil:
		return nil, fmt.Errorf("read what the %s script left: %w", what, err)
	case info.Size() > maxResult:
		return nil, fault.New(fault.Unavailable, "the %s script left %d bytes, which no certificate or list needs", what, info.Size())
	}
	return os.ReadFile(path)
}
