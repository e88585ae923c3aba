package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// agentProcess is the real agent, as a process of its own.
type agentProcess struct {
	name, token string
	cmd         *exec.Cmd
	output      *buffer
	ended       chan struct{}
}

// startAgent starts an agent on the demo's host.
func startAgent(ctx context.Context, s *story, token string) (*agentProcess, error) {
	a := &agentProcess{name: "demo-host", ended: make(chan struct{})}
	var err error
	if a.cmd, a.output, err = s.agentCommand(ctx, "agent", a.name, token); err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.AgentBinary, err)
	}
	go func() {
		_ = a.cmd.Wait()
		close(a.ended)
	}()
	return a, nil
}

// enrolAgain lets another host use the token that was used already.
func (a *agentProcess) enrolAgain(ctx context.Context, s *story) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd, output, err := s.agentCommand(ctx, "thief", "thief", a.token)
	if err != nil {
		return "", err
	}
	err = cmd.Run()
	return output.String(), err
}

// agentCommand prepares an agent with directories and an environment of its own.
func (s *story) agentCommand(ctx context.Context, dir, name, token string) (*exec.Cmd, *buffer, error) {
	keys, state := s.path(dir, "keys"), s.path(dir, "state")
	if err := errors.Join(os.MkdirAll(keys, 0o700), os.MkdirAll(state, 0o700)); err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, s.AgentBinary)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"CERTCTL_AGENT_NAME=" + name,
		"CERTCTL_KEY_DIR=" + keys,
		"CERTCTL_AGENT_STATE_DIR=" + state,
		"CERTCTL_LEAF_URL=" + s.LeafURL,
		"CERTCTL_ENROLMENT_TOKEN=" + token,
		"CERTCTL_AGENT_ALLOWED_COMMANDS=" + s.nginx.binary,
		"CERTCTL_LOG_FORMAT=text",
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	output := &buffer{}
	cmd.Stdout, cmd.Stderr = output, output
	return cmd, output, nil
}

// alive tells whether the agent is still running.
func (a *agentProcess) alive() error {
	select {
	case <-a.ended:
		return final("the agent ended")
	default:
		return nil
	}
}

// explain adds what the agent said last to an error.
func (a *agentProcess) explain(err error) error {
	return fmt.Errorf("%w\nthe agent's log ends with:\n%s", err, a.output.tail())
}

func (a *agentProcess) wait() {
	if a != nil {
		<-a.ended
	}
}

// buffer keeps what a process prints. It is safe for concurrent use.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer // under mu
}

// Write implements [io.Writer].
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *buffer) tail() string {
	const last = 2000
	text := b.String()
	return text[max(0, len(text)-last):]
}
