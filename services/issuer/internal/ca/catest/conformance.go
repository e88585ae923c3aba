package catest

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/services/issuer/internal/ca"
)

var update = flag.Bool("update", false, "write testdata/conformance.txt anew")

// suite is what was checked, in order.
type suite []checked

type checked struct {
	name string
	// ran is false for a capability that the CA does not have.
	ran bool
}

func (s *suite) check(t *testing.T, name string, has bool, f func(t *testing.T)) {
	t.Helper()
	*s = append(*s, checked{name, has})
	if has {
		t.Run(name, f)
	}
}

// Conforms runs the suite, and holds which checks a connector has passed, and against what, to what is written down in
// testdata/conformance.txt of its package.
func Conforms(t *testing.T, connector, against string, issuer ca.Issuer) {
	t.Helper()
	ConformsWithin(t, connector, against, issuer, Bounds{})
}

// ConformsWithin does so within a CA's bounds.
func ConformsWithin(t *testing.T, connector, against string, issuer ca.Issuer, b Bounds) {
	t.Helper()
	done := run(t, issuer, b)
	if t.Failed() {
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s\t%s\n", connector, against)
	for _, c := range done {
		outcome := "passed"
		if !c.ran {
			outcome = "cannot"
		}
		fmt.Fprintf(&text, "%s\t%s\n", c.name, outcome)
	}
	path := filepath.Join("testdata", "conformance.txt")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, []byte(text.String()), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	written, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(written), text.String()); d != "" {
		t.Errorf("%s says otherwise (-written +passed); look at it, run with -update, then make generate:\n%s", path, d)
	}
}
