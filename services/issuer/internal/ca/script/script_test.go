package script_test

import (
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/script"
	"github.com/certctl/certctl/services/issuer/internal/ca/script/scripttest"
)

// plain is a CA of plain OpenSSL, as the examples make it.
func plain(t *testing.T) (script.Config, string) {
	t.Helper()
	dir, root := scripttest.Plain(t)
	return script.Config{
		Sign: []string{filepath.Join(dir, "sign")}, Revoke: []string{filepath.Join(dir, "revoke")}, CRL: []string{filepath.Join(dir, "crl")},
		Timeout: time.Minute, Chain: []*x509.Certificate{root},
	}, dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, c script.Config) *script.Authority {
	t.Helper()
	a, err := script.Open(c, clock.System)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// program writes a script of a test's own.
func program(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{path}
}

func request(t *testing.T) ca.Request {
	t.Helper()
	return catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com")
}

func TestScript_ConformsWithPlainOpenSSL(t *testing.T) {
	c, _ := plain(t)
	catest.Conforms(t, "OpenSSL", "the example scripts and openssl", open(t, c))
}

func TestScript_LearnsItsChainFromTheFirstAnswer(t *testing.T) {
	c, _ := plain(t)
	c.Chain = nil
	a := open(t, c)
	if a.Chain() != nil {
		t.Errorf("before: %v", a.Chain())
	}
	if _, err := a.Issue(t.Context(), request(t)); err != nil {
		t.Fatal(err)
	}
	if len(a.Chain()) != 1 || a.Chain()[0].Subject.CommonName != "Plain CA" {
		t.Errorf("after: %v", a.Chain())
	}
}

func TestScript_ToldOfARevocationKeepsOneRecord(t *testing.T) {
	c, dir := plain(t)
	a := open(t, c)
	for range 2 {
		if err := a.Revoke(t.Context(), ca.Revocation{Serial: big.NewInt(0xabc), Reason: 4}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "revoked.txt"))
	if err != nil || strings.Count(string(text), "\n") != 1 || !strings.HasPrefix(string(text), "abc ") || !strings.Contains(string(text), "superseded") {
		t.Errorf("%q, %v", text, err)
	}
	c.Revoke = program(t, "echo the database is locked >&2; exit 1")
	if err := open(t, c).Revoke(t.Context(), ca.Revocation{Serial: big.NewInt(1)}); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "locked") {
		t.Errorf("a failure is told as %v", err)
	}
}

func TestScript_IsHeldToItsTimeWhicheverItIs(t *testing.T) {
	hang := program(t, "sleep 600 & wait")
	c, _ := plain(t)
	c.Sign, c.Revoke, c.CRL, c.Timeout = hang, hang, hang, 200*time.Millisecond
	a := open(t, c)
	now := time.Now()
	_, signing := a.Issue(t.Context(), request(t))
	_, listing := a.SignCRL(t.Context(), ca.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)})
	for what, err := range map[string]error{"sign": signing, "CRL": listing, "revoke": a.Revoke(t.Context(), ca.Revocation{Serial: big.NewInt(1)})} {
		if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "killed after 200ms") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestScript_IsNotBelievedWhateverItLeaves(t *testing.T) {
	c, _ := plain(t)
	for name, want := range map[string]struct {
		text string
		code fault.Code
		says string
	}{
		"nothing":            {"exit 0", fault.Unavailable, "left nothing"},
		"garbage":            {"echo busy > $2", fault.Unavailable, "no chain"},
		"the request":        {"cp $1 $2", fault.Unavailable, "no chain"},
		"a passing failure":  {"echo no route to host; exit 1", fault.Unavailable, "no route to host"},
		"a refusal for good": {"echo not in our domain; exit 2", fault.Invalid, "not in our domain"},
	} {
		t.Run(name, func(t *testing.T) {
			c.Sign = program(t, want.text)
			_, err := open(t, c).Issue(t.Context(), request(t))
			if fault.CodeOf(err) != want.code || !strings.Contains(err.Error(), want.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestScript_GetsWhatItHasToKnowAndNothingElse(t *testing.T) {
	t.Setenv("CERTCTL_AUTH_SECRET", "secret")
	out := filepath.Join(t.TempDir(), "env")
	c, _ := plain(t)
	c.Sign = append(program(t, "env > "+out+"; echo \"$1 $2\" >> "+out+"; exit 1"), "--profile=web; rm -rf /")
	r := catest.NewRequest(t, catest.NewKey(t, "ECDSA P-256"), "www.example.com", "192.0.2.7")
	r.Lifetime = 48 * time.Hour
	_, _ = open(t, c).Issue(t.Context(), r)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"CERTCTL_COMMON_NAME=www.example.com\n", "CERTCTL_SANS=DNS:www.example.com,IP:192.0.2.7\n", "CERTCTL_LIFETIME_SECONDS=172800\n",
		"CERTCTL_LIFETIME_DAYS=2\n", "CERTCTL_INPUT_FILE=/", "CERTCTL_OUTPUT_FILE=/", "--profile=web; rm -rf / /",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "AUTH_SECRET") {
		t.Error("it was handed a secret")
	}
}

func TestOpen_SaysWhichProgramCannotBeRun(t *testing.T) {
	c, dir := plain(t)
	unsafe := filepath.Join(dir, "unsafe")
	write(t, unsafe, "#!/bin/sh\n")
	if err := os.Chmod(unsafe, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		change func(*script.Config)
		says   string
	}{
		"no sign script":          {func(c *script.Config) { c.Sign = nil }, "sign_script: is required"},
		"one that is not there":   {func(c *script.Config) { c.CRL = []string{"/nowhere/crl"} }, "crl_script: /nowhere/crl does not exist"},
		"one that cannot run":     {func(c *script.Config) { c.Revoke = []string{filepath.Join(dir, "ca.crt")} }, "revoke_script"},
		"one found by PATH":       {func(c *script.Config) { c.Sign = []string{"sh"} }, "absolute path"},
		"one that all may change": {func(c *script.Config) { c.Sign = []string{unsafe} }, "written by everyone"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c
			want.change(&cfg)
			if _, err := script.Open(cfg, clock.System); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), want.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}
