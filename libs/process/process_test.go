package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRun_TellsWhatTheCommandSaid(t *testing.T) {
	said, err := Run(t.Context(), Command{Path: program(t, "echo out; echo err >&2; exit 3")}, time.Minute)
	if err == nil || said != "out\nerr" || !strings.Contains(err.Error(), "exit status 3: out\nerr") {
		t.Errorf("run = %q, %v", said, err)
	}
}

func TestRun_KeepsTheEndOfALongOutput(t *testing.T) {
	said, err := Run(t.Context(), Command{Path: program(t, "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done")}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(said, "line 2999") || !strings.HasPrefix(said, "... ") || len(said) > maxOutput+10 {
		t.Errorf("kept %d bytes: %.20q ... %q", len(said), said, said[len(said)-20:])
	}
}

func TestRun_HandsOnNoEnvironment(t *testing.T) {
	t.Setenv("CERTCTL_ENROLMENT_TOKEN", "secret")
	said, err := Run(t.Context(), Command{Path: program(t, "env")}, time.Minute)
	if err != nil || strings.Contains(said, "CERTCTL") || !strings.Contains(said, "LC_ALL=C") {
		t.Errorf("environment: %q, %v", said, err)
	}
}

func TestRun_KillsTheWholeGroupWhenTimeIsUp(t *testing.T) {
	note := filepath.Join(t.TempDir(), "pid")
	start := time.Now()
	_, err := Run(t.Context(), Command{Path: program(t, "sleep 600 & echo $! > "+note+"; wait")}, 500*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "killed after 500ms") {
		t.Errorf("run = %v", err)
	}
	if time.Since(start) > 10*time.Second {
		t.Errorf("it took %s", time.Since(start))
	}
	text, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil && !gone(pid) {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	if !gone(pid) {
		t.Error("a child of the command lives on")
	}
}

// gone reports whether a process has ended; it may not have been waited for yet.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(text), ") Z ")
}
