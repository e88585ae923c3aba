// Package process runs commands of operators: argument vectors, never a shell's lines. A run is bounded in time and
// output, has an environment of its own, and is a process group that is killed as a whole when its time is up.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	maxOutput = 8 << 10
	// afterlife is how long a daemon that a command left may hold on to its output.
	afterlife = 2 * time.Second
)

// environment is all that a command inherits.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C", "LC_ALL=C"}

// Command is a program and its arguments.
type Command struct {
	// Path is absolute.
	Path string
	Args []string
	// Env is added to a minimal environment, each as NAME=value. Nothing is inherited.
	Env []string
	// Dir is where it runs; empty is the root folder.
	Dir string
}

// String is the command as one would type it.
func (c Command) String() string { return strings.Join(append([]string{c.Path}, c.Args...), " ") }

// Objection says why a path can be no program of an operator's, and is empty if it can.
func Objection(path string) string {
	if !filepath.IsAbs(path) {
		return "must begin with the absolute path of a program"
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path + " does not exist"
	case err != nil:
		return path + " cannot be looked at: " + err.Error()
	case info.IsDir() || info.Mode()&0o111 == 0:
		return path + " cannot be run; chmod +x it"
	case info.Mode()&0o002 != 0:
		return path + " can be written by everyone"
	}
	return ""
}

// Run carries out a command and returns the last 8 KiB of what it said on both outputs, without blank ends. The error
// says how it ended, and repeats the output.
func Run(ctx context.Context, c Command, limit time.Duration) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(bounded, c.Path, c.Args...)
	cmd.Env = append(slices.Clone(environment), c.Env...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = afterlife
	err := cmd.Run()
	said := out.String()
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return said, nil
	case bounded.Err() != nil && ctx.Err() == nil:
		err = fmt.Errorf("killed after %s", limit)
	}
	if said == "" {
		return said, fmt.Errorf("%s: %w", c, err)
	}
	return said, fmt.Errorf("%s: %w: %s", c, err, said)
}

// tail keeps the last of what is written to it. exec writes from one goroutine, as both outputs are the same.
type tail struct {
	buf bytes.Buffer
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if extra := t.buf.Len() - maxOutput; extra > 0 {
		t.buf.Next(extra)
		t.cut = true
	}
	return len(p), nil
}

func (t *tail) String() string {
	s := strings.TrimSpace(strings.ToValidUTF8(t.buf.String(), string(utf8.RuneError)))
	if t.cut {
		return "... " + s
	}
	return s
}
