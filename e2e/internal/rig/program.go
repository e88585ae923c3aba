package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stopLimit is how long a program may take to end after SIGTERM.
const stopLimit = 10 * time.Second

// Program is one of our binaries, which can be run over and over with the same
// environment. It is safe for concurrent use.
type Program struct {
	Name string
	Path string
	Args []string
	Env  []string
	// As is the user to run as; nil is the test's own.
	As *syscall.Credential
	// Log is the file that gathers what every run of it printed.
	Log string

	t testing.TB

	mu     sync.Mutex
	cmd    *exec.Cmd     // guarded by mu; nil while it does not run
	exited chan struct{} // guarded by mu; closed when cmd is gone
}

// NewProgram prepares a program whose output goes to a file in dir. It is killed at the
// end of the test if it still runs.
func NewProgram(t testing.TB, dir, name, binary string, env ...string) *Program {
	t.Helper()
	p := &Program{Name: name, Path: Binary(binary), Env: env, Log: filepath.Join(dir, name+".log"), t: t}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s printed last:\n%s", name, p.Tail(6000))
		}
	})
	return p
}

// Start starts the program.
func (p *Program) Start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Errorf("start %s: %v", p.Name, err)
		return
	}
	defer log.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "CERTCTL_LOG_FORMAT=text"}, p.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.As}
	if err := cmd.Start(); err != nil {
		p.t.Errorf("start %s: %v", p.Name, err)
		return
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	p.cmd, p.exited = cmd, exited
}

// Kill ends the program as a power cut would, and returns when it is gone.
func (p *Program) Kill() { p.signal(syscall.SIGKILL) }

func (p *Program) signal(sig syscall.Signal) (exited <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	_ = p.cmd.Process.Signal(sig)
	if sig == syscall.SIGKILL {
		<-p.exited
	}
	return p.exited
}

// Freeze stops the program where it is, Thaw lets it go on.
func (p *Program) Freeze() { p.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (p *Program) Thaw() { p.signal(syscall.SIGCONT) }

// Stop asks the program to end, and returns its exit code and how long it took.
func (p *Program) Stop() (code int, took time.Duration) {
	p.t.Helper()
	begun := time.Now()
	select {
	case <-p.signal(syscall.SIGTERM):
	case <-time.After(stopLimit):
		p.t.Errorf("%s did not end within %s of SIGTERM", p.Name, stopLimit)
		p.Kill()
	}
	return p.exitCode(), time.Since(begun)
}

// Wait returns the exit code of a program that ends by itself.
func (p *Program) Wait(limit time.Duration) int {
	p.t.Helper()
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	select {
	case <-exited:
	case <-time.After(limit):
		p.t.Fatalf("%s did not end within %s", p.Name, limit)
	}
	return p.exitCode()
}

func (p *Program) exitCode() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.ProcessState.ExitCode()
}

// Running tells whether the program runs.
func (p *Program) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Output is all that the program has printed.
func (p *Program) Output() string {
	text, err := os.ReadFile(p.Log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(text)
}

// Tail is the end of what the program has printed, as far as it is not about requests
// that went well.
func (p *Program) Tail(size int) string {
	text := []byte(p.Output())
	text = text[max(0, len(text)-size):]
	if i := bytes.IndexByte(text, '\n'); i >= 0 && len(text) == size {
		text = text[i+1:]
	}
	return string(text)
}

// Says waits until the program has printed a text, and returns the line.
func (p *Program) Says(text string) string {
	p.t.Helper()
	var found string
	Within(p.t, Patience, fmt.Sprintf("%s says %q", p.Name, text), func() error {
		for line := range strings.Lines(p.Output()) {
			if strings.Contains(line, text) {
				found = strings.TrimSpace(line)
				return nil
			}
		}
		if !p.Running() {
			return fmt.Errorf("it has ended: %s", p.Tail(1000))
		}
		return errors.New("it does not")
	})
	return found
}
