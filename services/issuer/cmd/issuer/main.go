// Command issuer runs the issuer by itself. See package issuer and docs/operations for its settings.
package main

import (
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/issuer"
)

func main() { service.Main("issuer", new(issuer.Config), issuer.Run) }
