// Command gen writes everything that is derived from the contract: the bundled
// OpenAPI document, the table of operations and the events' JSON Schemas. Servers and
// clients are generated from the bundle by oapi-codegen (see the Makefile).
//
// It is run in the folder of the contracts module.
package main

import (
	"fmt"
	"os"
)

func main() {
	for _, step := range []func() error{bundle, operations, schemas} {
		if err := step(); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}
