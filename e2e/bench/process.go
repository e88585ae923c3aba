package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program under measurement, with what it started.
type process struct {
	cmd *exec.Cmd
	log string
}

// start runs a program with its output in a file.
func start(ctx context.Context, log string, env []string, name string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w; make build makes it", name, err)
	}
	return &process{cmd: cmd, log: log}, nil
}

func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// said returns the line of the log that begins with a word, once it is there.
func (p *process) said(ctx context.Context, word string, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(p.log)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, word) {
				return line, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", fmt.Errorf("%s did not say %q within %s; its log ends with: %.600s", p.cmd.Path, word, within, text[max(0, len(text)-600):])
		}
	}
}

// cpu is the processor time of the process and all that it started, also of what has
// ended and was waited for.
func (p *process) cpu() time.Duration {
	var ticks int64
	for _, pid := range family(p.cmd.Process.Pid) {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue
		}
		// The second field is a name in parentheses, which may hold spaces.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(f, 10, 64)
			ticks += n
		}
	}
	const perSecond = 100 // USER_HZ on every Linux that Go runs on
	return time.Duration(ticks) * time.Second / perSecond
}

// settle waits until the process has nothing left to do and returns its processor time.
func (p *process) settle(ctx context.Context) time.Duration {
	const pause, idle = 250 * time.Millisecond, 20 * time.Millisecond
	before := p.cpu()
	timer := time.NewTicker(pause)
	defer timer.Stop()
	for quiet := 0; quiet < 2; {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return before
		}
		now := p.cpu()
		if now-before <= idle {
			quiet++
		} else {
			quiet = 0
		}
		before = now
	}
	return before
}

// memory is the resident memory of the process alone, in MiB.
func (p *process) memory() float64 {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// family is a process and its descendants.
func family(root int) []int {
	children := map[int][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, e := range entries {
		stat, err := os.ReadFile(e)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(e)))
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}
