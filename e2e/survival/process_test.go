package survival

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaries is where TestMain has built the programs.
var binaries string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "certctl-survival-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// The private Postgres may run as another user, who must get through.
	if err := os.Chmod(dir, 0o711); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	binaries = dir
	build := exec.Command("go", "build", "-o", dir,
		"../../services/certctl/cmd/certctl", "../../services/issuer/cmd/issuer",
		"../../services/leaf/cmd/certctl-leaf", "../../services/agent/cmd/certctl-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// process is a program that is started again after each kill, with one log for all its
// lives.
type process struct {
	t    *testing.T
	name string
	env  []string
	args []string
	log  string

	mu    sync.Mutex
	cmd   *exec.Cmd     // under mu
	ended chan struct{} // under mu
}

func newProcess(t *testing.T, dir, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, env: env, args: args, log: filepath.Join(dir, name+".log")}
	t.Cleanup(func() {
		p.kill(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the log of %s ends with:\n%s", name, p.tail())
		}
	})
	return p
}

// start starts the program, or starts it again.
func (p *process) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer log.Close()
	program := p.args[0]
	if !filepath.IsAbs(program) {
		program = filepath.Join(binaries, program)
	}
	cmd := exec.Command(program, p.args[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		p.t.Errorf("start %s: %v", p.name, err)
		return
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	p.cmd, p.ended = cmd, ended
}

// kill sends a signal and waits for the end.
func (p *process) kill(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.t.Errorf("%s did not end within 20 s of signal %v", p.name, signal)
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	p.cmd = nil
}

func (p *process) tail() string {
	const last = 3000
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-last):])
}

// eventually repeats a check until it holds, and fails the test with its last answer
// when the time is over.
func eventually(t *testing.T, within time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var err error
	for {
		if last := check(ctx); last == nil {
			return
		} else if ctx.Err() == nil || err == nil {
			err = last
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
	}
}

// freePort is a port that nobody uses now. It must stay the same over the lives of a
// process, so it is chosen for it.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// postmaster is the process of the private Postgres.
func postmaster(dataDir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}
