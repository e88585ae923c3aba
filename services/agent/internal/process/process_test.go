package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/fault"
)

func TestParse_SplitsWithoutAShell(t *testing.T) {
	tests := map[string][]string{
		`nginx -t`:                         {"nginx", "-t"},
		"  nginx \t -s   reload ":          {"nginx", "-s", "reload"},
		`nginx -c '/etc/my nginx/n.conf'`:  {"nginx", "-c", "/etc/my nginx/n.conf"},
		`nginx -c "/etc/a \"b\" \\ c"`:     {"nginx", "-c", `/etc/a "b" \ c`},
		`a ''`:                             {"a", ""},
		`a b'c d'"e f"g`:                   {"a", "bc de fg"},
		`nginx -g 'pid /x; $not replaced'`: {"nginx", "-g", "pid /x; $not replaced"},
		`systemctl reload nginx@a.service`: {"systemctl", "reload", "nginx@a.service"},
	}
	for line, want := range tests {
		got, err := Parse(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}

func TestParse_RefusesWhatOnlyAShellUnderstands(t *testing.T) {
	for _, line := range []string{
		"", "  ", "''", "a | b", "a && b", "a; b", "a > /etc/x", "a < b", "a $(b)", "a `b`", "a $B", "a *", "a ?", "a [b]", "a {b,c}",
		"a ~", "a # b", "!a", "a\nb", "a\rb", `a \b`, `a "b`, `a 'b`, `a "$B"`, "a \"`b`\"", `a "\n"`, "a 'b\nc'", `a "b\`,
	} {
		if got, err := Parse(line); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q was taken as %q (%v)", line, got, err)
		}
	}
}

func FuzzParse_NeverYieldsAnEmptyProgram(f *testing.F) {
	f.Add(`nginx -c "/etc/nginx.conf" 'a'`)
	f.Fuzz(func(t *testing.T, line string) {
		argv, err := Parse(line)
		if err == nil && (len(argv) == 0 || argv[0] == "") {
			t.Errorf("%q: %q", line, argv)
		}
	})
}

func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPolicy_RunsOnlyWhatTheHostAllows(t *testing.T) {
	own := program(t, "")
	unit := regexp.MustCompile(`^nginx$`)
	rules := map[string]Rule{"true": func([]string) string { return "" }, "systemctl": Systemctl(unit), "service": Service(unit)}
	p := Policy{Allowed: []string{own}}
	for _, argv := range [][]string{{"true"}, {own, "any", "thing"}, {"/bin/true"}} {
		if _, err := p.Resolve(argv, rules); err != nil {
			t.Errorf("%q: %v", argv, err)
		}
	}
	for _, argv := range [][]string{
		{"sh"},
		{"/bin/sh", "-c", "true"},
		{filepath.Base(own)},
		{filepath.Dir(own) + "/../x/true"},
		{"./true"},
		{"/tmp/true"},
		{"/bin/../bin/true"},
		{"systemctl", "start", "nginx"},
		{"systemctl", "reload", "sshd"},
		{"systemctl", "reload", "nginx", "sshd"},
		{"systemctl", "--root=/x", "reload", "nginx"},
		{"service", "../../tmp/nginx", "reload"},
		{"service", "nginx", "evil"},
	} {
		if c, err := p.Resolve(argv, rules); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q was resolved to %s (%v)", argv, c, err)
		}
	}
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
