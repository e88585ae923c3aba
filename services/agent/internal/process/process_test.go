package process

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

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
