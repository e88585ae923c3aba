// Command deployment runs the deployment service by itself. See package deployment;
// --help lists its settings.
package main

import (
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/deployment"
)

func main() { service.Main("deployment", new(deployment.Config), deployment.Run) }
