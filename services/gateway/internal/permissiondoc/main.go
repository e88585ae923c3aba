// Command permissiondoc writes docs/operations/permissions.gen.md from the contract and
// the matrix, so that the page cannot say anything else than the code.
package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/services/gateway/internal/permission"
)

const page = "../../docs/operations/permissions.gen.md"

func main() {
	if err := os.WriteFile(page, []byte(table()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "permissiondoc:", err)
		os.Exit(1)
	}
}

func table() string {
	var b strings.Builder
	b.WriteString("<!-- Code generated from the contract and the permission matrix; DO NOT EDIT. -->\n\n# Permissions\n\n" +
		"Which service answers an operation, what it asks for, and who has that. Which rows a caller then sees is limited\n" +
		"by the scope of its key. How keys and roles are made: [identity](identity.md).\n\n" +
		"| operation | | owner | permission | roles |\n|---|---|---|---|---|\n")
	for _, op := range operations() {
		fmt.Fprintf(&b, "| %s | `%s %s` | %s | %s | %s |\n",
			op.ID, op.Method, op.Path, strings.Join(op.Services, ", "), op.Permission, roles(op.Permission))
	}
	return b.String()
}

// operations are those of the contract, and the metrics of the process.
func operations() []httpapi.Operation {
	all := slices.Clone(httpapi.Operations)
	if !slices.ContainsFunc(all, func(op httpapi.Operation) bool { return op.Path == "/metrics" }) {
		all = append(all, httpapi.Operation{ID: "(Prometheus)", Method: "GET", Path: "/metrics", Services: []string{"gateway"}, Permission: "metrics:read"})
	}
	slices.SortFunc(all, func(x, y httpapi.Operation) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Method, y.Method))
	})
	return all
}

// roles tells who has a permission.
func roles(of string) string {
	switch of {
	case permission.Open:
		return "everybody, without a key"
	case permission.Authenticated:
		return "all"
	}
	var have []string
	for _, role := range permission.Roles() {
		if permission.Granted(role, of) {
			have = append(have, role)
		}
	}
	return strings.Join(have, ", ")
}
