// Command conformancedoc writes docs/operations/conformance.gen.md from what the tests of each connector have left in
// its testdata, so that the page cannot claim what no test has seen.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	results = "internal/ca/*/testdata/conformance.txt"
	page    = "../../docs/operations/conformance.gen.md"
)

// connector is a column: who was checked against what, and what came of it.
type connector struct {
	name, against string
	outcomes      map[string]string
}

func main() {
	text, err := table()
	if err == nil {
		err = os.WriteFile(page, []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformancedoc:", err)
		os.Exit(1)
	}
}

func table() (string, error) {
	connectors, checks, err := read()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("<!-- Code generated from the results of the connectors' tests; DO NOT EDIT. -->\n\n# Conformance\n\n" +
		"What each connector has shown in the suite that all of them run ([catest](../../services/issuer/internal/ca/catest)): ✓ passed,\n" +
		"– a capability that it does not have. A check that fails, or that is not run any more, fails the build.\n\n| check |")
	for _, c := range connectors {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(connectors)) + "\n| against |")
	for _, c := range connectors {
		b.WriteString(" " + c.against + " |")
	}
	b.WriteString("\n")
	for _, check := range checks {
		b.WriteString("| " + check + " |")
		for _, c := range connectors {
			b.WriteString(map[string]string{"passed": " ✓ |", "cannot": " – |", "": " |"}[c.outcomes[check]])
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

// read returns the connectors by name, and the checks in the order of the suite.
func read() (all []connector, checks []string, err error) {
	paths, err := filepath.Glob(results)
	if err != nil {
		return nil, nil, err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		c := connector{outcomes: map[string]string{}}
		for n, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			left, right, ok := strings.Cut(line, "\t")
			switch {
			case !ok:
				return nil, nil, fmt.Errorf("%s: line %d is not two words", path, n+1)
			case n == 0:
				c.name, c.against = left, right
				continue
			case !slices.Contains(checks, left):
				checks = append(checks, left)
			}
			c.outcomes[left] = right
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(x, y connector) int { return strings.Compare(x.name, y.name) })
	return all, checks, nil
}
