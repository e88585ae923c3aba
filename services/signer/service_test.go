package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wire "github.com/certctl/certctl/contracts/signer"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/testkit/softhsm"
	"github.com/certctl/certctl/services/signer"
)

// config is that of a signer on a token of software. The library keeps its state by process, so these tests run one after
// the other.
func config(t *testing.T, k *softhsm.Token) signer.Config {
	t.Helper()
	t.Setenv("SOFTHSM2_CONF", k.Conf)
	dir, err := os.MkdirTemp("", "signer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return signer.Config{
		SignerModule: k.Module, SignerToken: softhsm.Label, SignerPINFile: k.PINFile, SignerSocket: filepath.Join(dir, "s"), SignerSessions: 2,
		LogLevel: "info", LogFormat: "json",
	}
}

// get asks for keys, again until somebody answers.
func get(t *testing.T, socket string) (int, []byte) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		answer, err := client.Get("http://signer" + wire.PathKeys)
		if err == nil {
			defer answer.Body.Close()
			var b bytes.Buffer
			if _, err := b.ReadFrom(answer.Body); err != nil {
				t.Fatal(err)
			}
			return answer.StatusCode, b.Bytes()
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestSigner_ServesUntilItIsToldToStopAndLeavesNoSocket(t *testing.T) {
	k := softhsm.New(t)
	cfg := config(t, k)
	var out bytes.Buffer
	if err := signer.Generate(cfg, "ca", "ECDSA", 384, &out); err != nil || !strings.Contains(out.String(), "made ca: ECDSA P-384, id ") {
		t.Fatalf("%s: %v", out.String(), err)
	}
	var log bytes.Buffer
	logger, err := cfg.Logger(&log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- signer.Run(ctx, cfg, logger) }()
	status, body := get(t, cfg.SignerSocket)
	var keys wire.Keys
	if err := json.Unmarshal(body, &keys); err != nil || status != http.StatusOK || len(keys.Keys) != 1 || keys.Keys[0].Label != "ca" {
		t.Errorf("%d %s: %v", status, body, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := os.Stat(cfg.SignerSocket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if strings.Contains(log.String(), softhsm.PIN) {
		t.Errorf("the log tells the PIN: %s", log.String())
	}
}

func TestSigner_ServesWithoutItsTokenAndSaysSo(t *testing.T) {
	k := softhsm.New(t)
	cfg := config(t, k)
	defer k.TakeOut(t)()
	logger, err := cfg.Logger(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- signer.Run(ctx, cfg, logger) }()
	status, body := get(t, cfg.SignerSocket)
	var f fault.Error
	if err := json.Unmarshal(body, &f); err != nil || status != http.StatusServiceUnavailable || f.Code != fault.Unavailable || !strings.Contains(f.Message, "is not present") {
		t.Errorf("%d %s: %v", status, body, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestConfig_NamesWhatIsMissingOrWrong(t *testing.T) {
	good := signer.Config{SignerModule: "/m.so", SignerToken: "t", SignerPINFile: "/pin", SignerSessions: 1, LogLevel: "info", LogFormat: "json"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*signer.Config){
		"CERTCTL_SIGNER_MODULE is not set":                  func(c *signer.Config) { c.SignerModule = "" },
		"CERTCTL_SIGNER_MODULE must be an absolute path":    func(c *signer.Config) { c.SignerModule = "m.so" },
		"CERTCTL_SIGNER_PIN_FILE is not set":                func(c *signer.Config) { c.SignerPINFile = "" },
		"CERTCTL_SIGNER_TOKEN is not set":                   func(c *signer.Config) { c.SignerToken = "" },
		"CERTCTL_SIGNER_SESSIONS must be from 1":            func(c *signer.Config) { c.SignerSessions = 0 },
		"CERTCTL_SIGNER_CLIENT: there is no user no-such-1": func(c *signer.Config) { c.SignerClient = "no-such-1" },
		"CERTCTL_LOG_LEVEL":                                 func(c *signer.Config) { c.LogLevel = "loud" },
		"CERTCTL_LOG_FORMAT":                                func(c *signer.Config) { c.LogFormat = "xml" },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
