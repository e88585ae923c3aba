package agent_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/command"
	agent "github.com/certctl/certctl/services/agent"
	"github.com/certctl/certctl/services/agent/internal/target/nginx"
	"github.com/certctl/certctl/services/agent/internal/target/nginx/nginxtest"
	"github.com/certctl/certctl/services/agent/internal/target/targettest"
)

// binaryDir outlives the test that builds the program, and goes with the process.
var binaryDir string

func removeBinary() {
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir)
	}
}

var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "certctl-agent-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "certctl-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/certctl-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, said)
	}
	return path, nil
})

func program(t *testing.T, cfg agent.Config, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(),
		"CERTCTL_AGENT_NAME="+cfg.AgentName, "CERTCTL_KEY_DIR="+cfg.KeyDir, "CERTCTL_AGENT_STATE_DIR="+cfg.AgentStateDir,
		"CERTCTL_LEAF_URL="+cfg.LeafURL, "CERTCTL_ENROLMENT_TOKEN="+cfg.EnrolmentToken,
		"CERTCTL_AGENT_ALLOWED_COMMANDS="+strings.Join(cfg.AgentAllowedCommands, ","),
	)
	return cmd
}

// launch starts the program and makes sure that it is gone when the test ends.
func launch(t *testing.T, cfg agent.Config) (cmd *exec.Cmd, ended <-chan struct{}) {
	t.Helper()
	cmd = program(t, cfg)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() {
			t.Log(said.String())
		}
	})
	return cmd, done
}

// deadly is an nginx that, once, kills the agent that started it: when it is called
// with the given argument.
func deadly(t *testing.T, s *nginxtest.Server, argument string) string {
	t.Helper()
	dir := t.TempDir()
	path, struck := filepath.Join(dir, "nginx"), filepath.Join(dir, "struck")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *%s*) if [ ! -e %s ]; then touch %s; kill -9 $PPID; fi;; esac\nexec %s \"$@\"\n",
		argument, struck, struck, s.Binary)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProgram_FinishesWhatAKillCutOff(t *testing.T) {
	for _, during := range []string{"-t", "reload"} {
		t.Run(during, func(t *testing.T) {
			l := startLeaf(t)
			authority := targettest.NewAuthority(t)
			server := startNGINX(t, authority)
			cfg := newConfig(t, l)
			path := deadly(t, server, during)
			cfg.AgentAllowedCommands = []string{path}
			_, killed := launch(t, cfg)
			chain, fingerprint := l.certify(authority, "job-i-1")
			l.order(command.VerbDeploy, "job-d-1", 1, deployOrder(t, server, chain, fingerprint, func(c *nginx.Config) { c.Binary = path }))
			select {
			case <-killed:
			case <-time.After(patience):
				t.Fatal("the agent was not killed")
			}
			launch(t, cfg)
			done := l.report("job-d-1", command.OutcomeCompleted)
			if done.ServedFingerprintSHA256 != fingerprint {
				t.Errorf("report = %+v", done)
			}
			l.settled()
			if n := l.count("job-d-1", command.OutcomeCompleted); n != 1 {
				t.Errorf("the end was reported %d times", n)
			}
			if left, err := filepath.Glob(filepath.Join(server.Prefix, ".*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// The agent is a guest on its host.
const mostMemory = 25 << 10 // KiB

func TestProgram_IsSmallAndStopsWhenAsked(t *testing.T) {
	l := startLeaf(t)
	authority := targettest.NewAuthority(t)
	server := startNGINX(t, authority)
	cfg := newConfig(t, l)
	cmd, ended := launch(t, cfg)
	chain, fingerprint := l.certify(authority, "job-i-1")
	l.order(command.VerbDeploy, "job-d-1", 1, deployOrder(t, server, chain, fingerprint))
	l.report("job-d-1", command.OutcomeCompleted)
	l.settled()
	if kib := resident(t, cmd.Process.Pid); kib > mostMemory {
		t.Errorf("%d KiB resident, more than %d", kib, mostMemory)
	} else {
		t.Logf("%d KiB resident after one deployment", kib)
	}
	said, err := program(t, cfg, "status").CombinedOutput()
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	for _, want := range []string{agentID, site, "running            yes", "orders remembered  2"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("status lacks %q:\n%s", want, said)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the agent does not stop")
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func resident(t *testing.T, pid int) (kib int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kib
}

func TestProgram_NeedsNoTokenFileOnceItIsEnrolled(t *testing.T) {
	l := startLeaf(t)
	cfg := newConfig(t, l)
	first, ended := launch(t, cfg)
	l.await("a heartbeat", func() bool { return len(l.heartbeats) > 1 })
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	t.Setenv("CERTCTL_ENROLMENT_TOKEN_FILE", filepath.Join(t.TempDir(), "gone"))
	cfg.EnrolmentToken = ""
	launch(t, cfg)
	l.certify(targettest.NewAuthority(t), "job-i-1")
}

func TestProgram_FailsWhenItIsRefused(t *testing.T) {
	l := startLeaf(t)
	cfg := newConfig(t, l)
	l.mu.Lock()
	l.secret = ""
	l.mu.Unlock()
	said, err := program(t, cfg).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "has been used") {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := program(t, cfg, "--help").CombinedOutput(); err != nil || !strings.Contains(string(said), "CERTCTL_ENROLMENT_TOKEN_FILE") {
		t.Errorf("help: %v: %s", err, said)
	}
	if said, err := program(t, cfg, "--version").CombinedOutput(); err != nil || !strings.HasPrefix(string(said), "certctl-agent ") {
		t.Errorf("version: %v: %s", err, said)
	}
	if said, err := program(t, cfg, "frobnicate").CombinedOutput(); err == nil || !strings.Contains(string(said), "unknown command") {
		t.Errorf("unknown command: %v: %s", err, said)
	}
}
