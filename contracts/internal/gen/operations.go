package main

import (
	"bytes"
	"fmt"
	"go/format"
	"os"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

const operationsFile = "httpapi/operations.gen.go"

// operations writes the table by which the gateway routes, permits and audits.
func operations() error {
	doc, err := openapi3.NewLoader().LoadFromFile(bundled)
	if err != nil {
		return err
	}
	var rows []string
	for _, path := range doc.Paths.InMatchingOrder() {
		for method, op := range doc.Paths.Value(path).Operations() {
			permission, _ := op.Extensions["x-permission"].(string)
			if op.OperationID == "" || len(op.Tags) == 0 || permission == "" {
				return fmt.Errorf("%s %s: operationId, tags and x-permission are needed", method, path)
			}
			if open := op.Security != nil && len(*op.Security) == 0; open != (permission == "open") {
				return fmt.Errorf("%s: security and x-permission disagree", op.OperationID)
			}
			patience := ""
			if seconds, ok := op.Extensions["x-patience-seconds"].(float64); ok {
				patience = fmt.Sprintf(", PatienceSeconds: %v", seconds)
			}
			rows = append(rows, fmt.Sprintf("{ID: %q, Method: %q, Path: %q, Services: %#v, Permission: %q%s},",
				op.OperationID, method, path, op.Tags, permission, patience))
		}
	}
	slices.Sort(rows)
	var b bytes.Buffer
	b.WriteString("// Code generated from the OpenAPI document; DO NOT EDIT.\n\npackage httpapi\n\n")
	b.WriteString("// Operations lists every operation of the contract, by id.\nvar Operations = []Operation{\n")
	b.WriteString(strings.Join(rows, "\n"))
	b.WriteString("\n}\n")
	src, err := format.Source(b.Bytes())
	if err != nil {
		return err
	}
	return os.WriteFile(operationsFile, src, 0o644)
}
