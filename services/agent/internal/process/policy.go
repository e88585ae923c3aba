package process

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/certctl/certctl/libs/fault"
)

// system is where the commands of a target are looked for, whatever PATH the agent was
// started with.
var system = []string{
	"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/openresty/bin",
}

// Rule judges the arguments of a command; it returns why they are refused, or nothing.
type Rule func(args []string) (objection string)

// Policy says which commands may be run, on this host's authority alone: a target's
// configuration comes from the platform, and whoever takes that over must not have a
// root shell on every host.
type Policy struct {
	// Allowed are absolute paths that the operator of the host vouches for.
	Allowed []string
}

// Command is a command that may be run.
type Command struct {
	Path string
	Args []string
}

// String is the command for people to read.
func (c Command) String() string { return strings.Join(append([]string{c.Path}, c.Args...), " ") }

// Resolve finds the command of an argument vector and judges it. Rules are by base
// name; a command of no rule must be allowed by its path. The error is fault.Invalid.
func (p Policy) Resolve(argv []string, rules map[string]Rule) (Command, error) {
	name := argv[0]
	path, found := p.find(name, rules)
	if !found {
		return Command{}, fault.New(fault.Invalid,
			"the command %q is not allowed on this host: allowed are %s in the system's folders, and what CERTCTL_AGENT_ALLOWED_COMMANDS lists by absolute path (%s)",
			name, strings.Join(names(rules), ", "), orNone(p.Allowed))
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return Command{}, fault.New(fault.Invalid, "the command %q is not a program on this host (%s)", name, path)
	}
	if rule, ok := rules[filepath.Base(path)]; ok {
		if objection := rule(argv[1:]); objection != "" {
			return Command{}, fault.New(fault.Invalid, "the command %q is not allowed: %s", strings.Join(argv, " "), objection)
		}
	}
	return Command{Path: path, Args: slices.Clone(argv[1:])}, nil
}

func (p Policy) find(name string, rules map[string]Rule) (string, bool) {
	if slices.Contains(p.Allowed, name) {
		return name, true
	}
	base := filepath.Base(name)
	if _, known := rules[base]; !known {
		return "", false
	}
	if name != base {
		return name, filepath.Clean(name) == name && slices.Contains(system, filepath.Dir(name))
	}
	for _, path := range p.Allowed {
		if filepath.Base(path) == name {
			return path, true
		}
	}
	for _, dir := range system {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, true
		}
	}
	// Found nowhere; say so of the usual place.
	return filepath.Join("/usr/sbin", name), true
}

// Systemctl lets one kind of unit be reloaded or restarted, and nothing else.
func Systemctl(unit *regexp.Regexp) Rule {
	verbs := []string{"reload", "reload-or-restart", "try-reload-or-restart", "restart", "try-restart"}
	return func(args []string) string {
		if len(args) == 2 && slices.Contains(verbs, args[0]) && unit.MatchString(args[1]) {
			return ""
		}
		return "systemctl may " + strings.Join(verbs, ", ") + " one unit of the form " + unit.String()
	}
}

// Service is Systemctl for hosts without systemd.
func Service(name *regexp.Regexp) Rule {
	verbs := []string{"reload", "force-reload", "restart", "configtest"}
	return func(args []string) string {
		if len(args) == 2 && name.MatchString(args[0]) && slices.Contains(verbs, args[1]) {
			return ""
		}
		return "service may " + strings.Join(verbs, ", ") + " one service of the form " + name.String()
	}
}

func names(rules map[string]Rule) []string {
	var out []string
	for name := range rules {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func orNone(paths []string) string {
	if len(paths) == 0 {
		return "none"
	}
	return strings.Join(paths, ", ")
}
