// Command audit runs the audit service by itself.
package main

import (
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/audit"
)

func main() { service.Main("audit", new(audit.Config), audit.Run) }
