// Package archtest checks which packages of the workspace may use which others, and says why when one may not.
//
// The boundaries hold three times over: a module that does not require another cannot import it, internal/ hides a
// service's insides, and this package catches what those two let through, such as a test helper that reaches a
// production binary by way of a third package. It looks at what is compiled into production code (not at _test.go
// files) as `go list -deps` reports it, so an indirect import counts like a direct one.
//
// Rules are data: a table {from, mustNot, why} in this package's own test is the whole of the architecture that a
// machine can check. Nothing here knows a domain word.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// Package is what `go list` says of one package, as far as rules need it.
type Package struct {
	ImportPath string
	Name       string
	Dir        string
	GoFiles    []string // without tests
	Imports    []string // direct
	Deps       []string // direct and indirect
	Module     *struct{ Path string }
}

// Rule forbids the packages matched by From to have a dependency matched by MustNot. A pattern is an import path, or a
// prefix of one that ends in "/..." and then matches the prefix itself too. A forbidden tree may be used from within the
// same child of it: with services/... forbidden to services/..., a service may use its own packages.
type Rule struct {
	From    string
	Except  []string // packages of From that the rule does not bind
	MustNot string
	Why     string
}

// List returns the packages that patterns match and all they depend on, by import path. It runs the go command in dir.
func List(dir string, patterns ...string) (map[string]Package, error) {
	args := append([]string{"list", "-deps", "-json=ImportPath,Name,Dir,GoFiles,Imports,Deps,Module"}, patterns...)
	command := exec.Command("go", args...)
	command.Dir = dir
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	packages := map[string]Package{}
	for decoder := json.NewDecoder(&stdout); ; {
		var p Package
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages[p.ImportPath] = p
	}
}

// Check returns a sentence for each package that breaks a rule: who, what, by which way, and why that is not allowed.
func Check(packages map[string]Package, rules []Rule) []string {
	var broken []string
	for _, rule := range rules {
		for importPath, p := range packages {
			if !match(rule.From, importPath) || matchAny(rule.Except, importPath) {
				continue
			}
			for _, dep := range p.Deps {
				if match(rule.MustNot, dep) && !sameTree(importPath, dep, rule.MustNot) {
					broken = append(broken, fmt.Sprintf("%s must not use %s\n\tbecause %s\n\tby way of %s",
						importPath, dep, rule.Why, strings.Join(Way(packages, importPath, dep), " -> ")))
					break
				}
			}
		}
	}
	slices.Sort(broken)
	return slices.Compact(broken)
}

// sameTree says that dep lies in the same child of the forbidden tree as the package itself.
func sameTree(importPath, dep, forbidden string) bool {
	root, isTree := strings.CutSuffix(forbidden, "...")
	if !isTree || !strings.HasPrefix(importPath, root) || !strings.HasPrefix(dep, root) {
		return false
	}
	mine, _, _ := strings.Cut(importPath[len(root):], "/")
	theirs, _, _ := strings.Cut(dep[len(root):], "/")
	return mine == theirs
}

// Way returns one shortest chain of imports that leads from a package to one of its dependencies, both included.
func Way(packages map[string]Package, from, to string) []string {
	cameFrom := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == to {
			break
		}
		for _, next := range packages[queue[0]].Imports {
			if _, seen := cameFrom[next]; !seen {
				cameFrom[next] = queue[0]
				queue = append(queue, next)
			}
		}
	}
	var way []string
	for at := to; at != ""; at = cameFrom[at] {
		way = append(way, at)
	}
	slices.Reverse(way)
	return way
}

func match(pattern, importPath string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return importPath == prefix || strings.HasPrefix(importPath, prefix+"/")
	}
	return importPath == pattern
}

func matchAny(patterns []string, importPath string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, importPath) })
}
