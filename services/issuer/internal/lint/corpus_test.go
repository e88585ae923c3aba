package lint

import (
	"bytes"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/zmap/zlint/v3/lint"
)

// corpus reads the certificates that zlint tries its own rules on: some for every rule, both such as break it and such as
// do not.
func corpus(t *testing.T) map[string][]byte {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/zmap/zlint/v3").Output()
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(string(bytes.TrimSpace(dir)), "testdata", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]byte, len(paths))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				out[filepath.Base(path)] = block.Bytes
				break
			}
		}
	}
	if len(out) < 1000 {
		t.Fatalf("only %d certificates", len(out))
	}
	return out
}

// TestCheck_FindsWhatAskingEveryRuleFinds: also the rules that are not asked, for want of the extension that they are about,
// have nothing to say. Each of them is asked somewhere.
func TestCheck_FindsWhatAskingEveryRuleFinds(t *testing.T) {
	asked, spoke := map[string]bool{}, map[string]bool{}
	for name, der := range corpus(t) {
		cert, err := parse(der)
		if err != nil {
			continue
		}
		for _, set := range []Ruleset{RFC, CABF} {
			var want []string
			for _, r := range rules(set) {
				// As zlint itself would, with a configuration of its own.
				result := r.Execute(cert, lint.NewEmptyConfig())
				if level, found := levels[result.Status]; found && len(want) < maxFindings {
					want = append(want, string(level)+" "+r.Name)
				}
				switch {
				case r.extension == "":
				case r.applies(cert):
					asked[r.Name] = true
					spoke[r.extension] = spoke[r.extension] || result.Status > lint.Pass
				case result.Status != lint.NA:
					t.Errorf("%s: %s, which is about %s, says %s", name, r.Name, r.extension, result.Status)
				}
			}
			var got []string
			// Without details: some rules write them in another order each time.
			for _, f := range Check(der, set) {
				got = append(got, string(f.Level)+" "+f.Lint)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: found are %q, by all rules %q", name, got, want)
			}
		}
	}
	for _, r := range rules(CABF) {
		if r.extension != "" && !asked[r.Name] {
			t.Errorf("no certificate has the extension of %s", r.Name)
		}
	}
	for _, e := range extensions {
		if !spoke[e.oid] {
			t.Errorf("no rule about %s finds anything", e.oid)
		}
	}
}
