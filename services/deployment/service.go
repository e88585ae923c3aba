// Package deployment brings certificates to the hosts that serve them.
//
// It owns sites, agents, targets and the jobs that install a version on a target. It
// is the one service with a foot in both accounts: events of CORE become signed orders
// to agents in EDGE, and the agents' signed reports become events. Only the subject of
// a message, which the servers check, says which site and agent it comes from.
//
// A job's row is the truth. An order that is lost is sent again; a report that comes
// twice, late or out of order changes nothing that has ended.
package deployment

import (
	"context"

	"github.com/certctl/certctl/libs/service"
)

// Run serves until ctx ends, then finishes what is in hand.
func Run(ctx context.Context, cfg Config, deps service.Deps) error {
	if err := cfg.Edge.validate(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
