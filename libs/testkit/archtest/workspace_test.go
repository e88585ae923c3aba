package archtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	mod            = "github.com/certctl/certctl"
	maxLines       = 500
	natsServer     = "github.com/nats-io/nats-server/v2/..."
	testcontainers = "github.com/testcontainers/..."
	pkcs11         = "github.com/miekg/pkcs11/..."
)

// suites are packages that tests alone use: what every CA must do, and the CAs that are started for it.
var suites = []string{
	mod + "/services/issuer/internal/ca/catest", mod + "/services/issuer/internal/ca/acme/pebbletest",
	mod + "/services/issuer/internal/ca/script/scripttest", mod + "/services/issuer/internal/ca/stepca/stepcatest",
}

var rules = []Rule{
	{
		From: mod + "/services/...", Except: []string{mod + "/services/certctl/..."}, MustNot: mod + "/services/...",
		Why: "services know each other by contracts only; certctl alone puts them into one process",
	},
	{
		From: mod + "/contracts/...", MustNot: mod + "/...",
		Why: "the words that services share must not drag anyone's code along",
	},
	{
		From: mod + "/migrations/...", MustNot: mod + "/...",
		Why: "migrations are SQL and one embed; what they need of us would tie a schema to code",
	},
	{
		From: mod + "/libs/...", MustNot: mod + "/contracts/...",
		Why: "libs are mechanism without domain words",
	},
	{
		From: mod + "/libs/...", MustNot: mod + "/services/...",
		Why: "libs serve every service, so they can depend on none",
	},
	{
		From: mod + "/...", Except: append([]string{mod + "/libs/testkit/...", mod + "/e2e/..."}, suites...), MustNot: mod + "/libs/testkit/...",
		Why: "testkit starts servers without sync and with open doors: for _test.go files and suites of tests only",
	},
	{
		From:    mod + "/...",
		Except:  []string{mod + "/libs/testkit/...", mod + "/e2e/...", mod + "/services/leaf/...", mod + "/services/certctl/..."},
		MustNot: natsServer,
		Why:     "only leaf and certctl embed a NATS server; a service is a client of one",
	},
	{
		From: mod + "/...", Except: []string{mod + "/libs/testkit/..."}, MustNot: testcontainers,
		Why: "a Docker client belongs in no product, and the tests run without Docker",
	},
	{
		From: mod + "/...", Except: []string{mod + "/services/signer/..."}, MustNot: pkcs11,
		Why: "it loads a token's library by way of cgo, and every other program is static and keeps foreign code out of its process",
	},
}

var meaningless = []string{"util", "utils", "common", "helpers", "helper", "models", "model", "types", "base", "manager", "misc", "shared"}

// workspace lists every package of every module of go.work.
var workspace = sync.OnceValues(func() (map[string]Package, error) {
	work, err := exec.Command("go", "env", "GOWORK").Output()
	if err != nil {
		return nil, err
	}
	root := filepath.Dir(strings.TrimSpace(string(work)))
	list := exec.Command("go", "list", "-m", "-f", "{{.Path}}/...")
	list.Dir = root
	modules, err := list.Output()
	if err != nil {
		return nil, err
	}
	return List(root, strings.Fields(string(modules))...)
})

func own(t *testing.T) map[string]Package {
	t.Helper()
	packages, err := workspace()
	if err != nil {
		t.Fatalf("list the workspace: %v", err)
	}
	return packages
}

func TestWorkspace_KeepsItsBoundaries(t *testing.T) {
	for _, broken := range Check(own(t), rules) {
		t.Error(broken)
	}
}

func TestWorkspace_EveryRuleBindsSomething(t *testing.T) {
	packages := own(t)
	for _, rule := range rules {
		if !slices.ContainsFunc(keys(packages), func(p string) bool { return match(rule.From, p) }) {
			t.Errorf("no package matches %s: the rule guards nothing (%s)", rule.From, rule.Why)
		}
	}
}

func TestWorkspace_PackagesAreNamedForConcepts(t *testing.T) {
	for importPath, p := range own(t) {
		if match(mod+"/...", importPath) && slices.Contains(meaningless, p.Name) {
			t.Errorf("%s: package %s says nothing of what it holds; name it for its concept", importPath, p.Name)
		}
	}
}

func TestWorkspace_FilesStayReadable(t *testing.T) {
	for importPath, p := range own(t) {
		if !match(mod+"/...", importPath) {
			continue
		}
		for _, name := range p.GoFiles {
			if strings.HasSuffix(name, ".gen.go") {
				continue
			}
			file := filepath.Join(p.Dir, name)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if lines := bytes.Count(text, []byte("\n")); lines > maxLines {
				t.Errorf("%s has %d lines, more than %d: split it along a concept", file, lines, maxLines)
			}
		}
	}
}

func keys(packages map[string]Package) []string {
	names := make([]string, 0, len(packages))
	for name := range packages {
		names = append(names, name)
	}
	return names
}
