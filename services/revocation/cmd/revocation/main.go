// Command revocation runs the revocation service by itself.
package main

import (
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/revocation"
)

func main() { service.Main("revocation", new(revocation.Config), revocation.Run) }
