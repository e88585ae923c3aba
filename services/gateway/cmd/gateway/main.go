// Command gateway runs the gateway by itself. See package gateway and
// docs/operations for its settings.
package main

import (
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/gateway"
)

func main() { service.Main("gateway", new(gateway.Config), gateway.Run) }
