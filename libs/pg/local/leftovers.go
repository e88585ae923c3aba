package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	leftoverPoll = 10 * time.Millisecond
	// The line of postmaster.pid in which the server says how far it is.
	statusLine = 7
)

// clearLeftovers makes way for a server in the data folder: it ends what is left of an earlier one and removes its
// lock files, postmaster.pid and that of the socket. Postgres judges them by whether a process of that id exists, and
// refuses to start when the id has meanwhile gone to another process of the same user, or when the dead server still
// waits for a parent to reap it, as happens in containers. We know better: the folder is locked, so no launcher is
// alive, and what runs in the folder can be seen.
//
// An earlier server is stopped, not adopted. It could not be waited for, and would not die with this process.
func (c *Cluster) clearLeftovers() error {
	pidFile := filepath.Join(c.at.data, "postmaster.pid")
	raw, err := os.ReadFile(pidFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for an earlier Postgres: %w", err)
	}
	stale, _ := filepath.Glob(filepath.Join(c.at.socket, ".s.PGSQL.*"))
	if err == nil {
		stale = append(stale, pidFile)
	}
	if len(stale) == 0 {
		return nil
	}
	if err := c.endProcesses(pidIn(strings.Split(string(raw), "\n"))); err != nil {
		return err
	}
	for _, file := range stale {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove what an earlier Postgres left: %w", err)
		}
	}
	return nil
}

// endProcesses ends every server process in the data folder: the postmaster so that it takes its children along and
// frees its shared memory, and whatever is left after that by force.
func (c *Cluster) endProcesses(postmaster int) error {
	left := serversIn(c.at.data, postmaster)
	if len(left) == 0 {
		return nil
	}
	c.o.Log.Warn("stopping a Postgres that an earlier run left behind", "pids", left)
	if slices.Contains(left, postmaster) {
		_ = syscall.Kill(postmaster, sigImmediate)
	}
	// Without a postmaster the others notice its death and go by themselves, unless they are busy.
	for _, patience := range []time.Duration{2 * time.Second, 3 * time.Second} {
		if left = c.awaitEnd(postmaster, patience); len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, sigKill)
		}
	}
	return fmt.Errorf("processes %v of an earlier Postgres do not end", left)
}

// awaitEnd returns the server processes that are left in the data folder: none, or those that there are after a while.
func (c *Cluster) awaitEnd(postmaster int, patience time.Duration) (left []int) {
	poll := time.NewTicker(leftoverPoll)
	defer poll.Stop()
	for deadline := time.After(patience); ; {
		if left = serversIn(c.at.data, postmaster); len(left) == 0 {
			return nil
		}
		select {
		case <-deadline:
			return left
		case <-poll.C:
		}
	}
}

// saysReady reports whether the server with this id has written that it takes connections.
func (c *Cluster) saysReady(pid int) bool {
	raw, err := os.ReadFile(filepath.Join(c.at.data, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(raw), "\n")
	return len(lines) > statusLine && pidIn(lines) == pid && strings.TrimSpace(lines[statusLine]) == "ready"
}

func pidIn(lines []string) int {
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return 0
	}
	return pid
}
