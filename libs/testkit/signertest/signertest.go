// Package signertest runs a real certctl-signer for tests, on a token of software, in a folder that goes with the test.
package signertest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/libs/testkit/softhsm"
)

const startWithin = 30 * time.Second

// Signer is a certctl-signer that runs until its test ends.
type Signer struct {
	// Token is what it holds the keys in.
	Token *softhsm.Token
	// Socket is where it serves this process's user.
	Socket string

	t   testing.TB
	cmd *exec.Cmd
	log bytes.Buffer
}

// program is certctl-signer as it is now, built once in a process. There is nobody to remove it after the last test, so its
// file is removed at once and run by way of the open one.
var program = sync.OnceValues(func() (*os.File, error) {
	dir, err := os.MkdirTemp("", "certctl-signer-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "certctl-signer")
	build := exec.Command("go", "build", "-o", path, "github.com/certctl/certctl/services/signer/cmd/certctl-signer")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if said, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build certctl-signer, which needs a C compiler: %w: %s", err, said)
	}
	return os.Open(path)
})

// Start makes a token and starts a signer on it.
func Start(t testing.TB) *Signer {
	t.Helper()
	// A socket's path may have some hundred bytes, and a test's folder is named for the test.
	dir, err := os.MkdirTemp("", "signer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Signer{Token: softhsm.New(t), Socket: filepath.Join(dir, "signer.sock"), t: t}
	t.Cleanup(s.Kill)
	s.Run()
	return s
}

// Run starts the signer, after Kill again, with what is to be different in its environment.
func (s *Signer) Run(env ...string) {
	s.t.Helper()
	s.cmd = s.command(env...)
	s.log.Reset()
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(startWithin); !s.answers(); <-tick.C {
		if time.Now().After(deadline) {
			s.Kill()
			s.t.Fatalf("certctl-signer did not start:\n%s", s.log.String())
		}
	}
}

// answers asks for something. By the answer, whatever it is, the signer has logged in or given up: SoftHSM writes the
// token's file anew at each login, in place, and loses the token if it is killed at that moment.
func (s *Signer) answers() bool {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.Socket)
		},
		DisableKeepAlives: true,
	}}
	r, err := http.NewRequestWithContext(context.WithoutCancel(s.t.Context()), http.MethodGet, "http://signer/v1/keys?label=none", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return true
}

// Do runs one of the program's commands beside the one that serves, and returns what it printed.
func (s *Signer) Do(args ...string) string {
	s.t.Helper()
	cmd := s.command()
	cmd.Args = append(cmd.Args, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("certctl-signer %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (s *Signer) command(env ...string) *exec.Cmd {
	s.t.Helper()
	file, err := program()
	if err != nil {
		s.t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd())
	// The test's context has ended by the time that it is killed.
	cmd := exec.CommandContext(context.WithoutCancel(s.t.Context()), path)
	cmd.Env = append([]string{
		s.Token.Env(), "CERTCTL_SIGNER_MODULE=" + s.Token.Module, "CERTCTL_SIGNER_TOKEN=" + softhsm.Label,
		"CERTCTL_SIGNER_PIN_FILE=" + s.Token.PINFile, "CERTCTL_SIGNER_SOCKET=" + s.Socket,
	}, env...)
	return cmd
}

// Kill ends the signer as a crash does.
func (s *Signer) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait()
	s.cmd = nil
}
