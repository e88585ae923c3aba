// Package process decides which commands of targets may run, such as "nginx -t".
//
// A command is an argument vector, never a shell's line (Parse). Which programs may run, with which arguments, is
// decided on the host (Policy). How a run is bounded is libs/process's matter.
package process

import (
	"context"
	"time"

	"github.com/certctl/certctl/libs/process"
)

// Run carries out a command that the policy has let pass; see [process.Run].
func Run(ctx context.Context, c Command, limit time.Duration) (string, error) {
	return process.Run(ctx, process.Command{Path: c.Path, Args: c.Args}, limit)
}
