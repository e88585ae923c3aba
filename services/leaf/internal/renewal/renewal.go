// Package renewal keeps a leaf's JWT fresh and its account JWT current.
//
// At each new link to the hub, and daily, the leaf asks for a new JWT for the same key.
// The answer also holds the newest account JWT, which makes up for updates that were
// sent, and expired, while the site was cut off.
package renewal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/leaf/internal/identity"
	"github.com/certctl/certctl/services/leaf/internal/link"
)

const (
	askTimeout = 10 * time.Second
	daily      = 24 * time.Hour
)

var again = retry.Policy{Base: time.Second, Cap: 10 * time.Minute, Jitter: 0.3}

// Renewer renews one leaf's JWT. Its fields are set before Run.
type Renewer struct {
	NC    *nats.Conn
	Link  *link.Link
	Store *identity.Store
	// ApplyAccount takes the newest account JWT.
	ApplyAccount func(token string) error
	Log          *slog.Logger
}

// Run renews until ctx ends.
func (r *Renewer) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		up, err := r.Link.Up(ctx)
		if err != nil {
			return nil // ctx has ended
		}
		r.whileUp(up)
	}
	return nil
}

func (r *Renewer) whileUp(up context.Context) {
	failures := 0
	for up.Err() == nil {
		// Not all leaves ask at the same time of day.
		wait := daily - rand.N(daily/10) //nolint:gosec // it spreads load, and nothing depends on its being unknown
		if err := r.renew(up); err != nil {
			failures++
			wait = again.Delay(failures, nil)
			r.Log.Debug("renew the leaf's JWT", "error", err, "again_in", wait)
		} else {
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-up.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (r *Renewer) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	who := r.Store.Current()
	msg, err := r.NC.RequestWithContext(ctx, subject.AgentRequest(who.SiteID, subject.AgentSite, command.VerbRefresh), []byte("{}"))
	if err != nil {
		return fmt.Errorf("ask the hub: %w", err)
	}
	var reply command.Reply[command.RefreshReply]
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return fmt.Errorf("answer of the hub: %w", err)
	}
	if reply.Fault != nil {
		return fault.New(fault.Code(reply.Fault.Code), "%s", reply.Fault.Message)
	}
	if reply.Body == nil {
		return errors.New("answer of the hub is empty")
	}
	if err := r.take(reply.Body.UserJWT); err != nil {
		return err
	}
	if reply.Body.AccountJWT == "" {
		return nil
	}
	if err := r.ApplyAccount(reply.Body.AccountJWT); err != nil && !errors.Is(err, natsauth.ErrStale) {
		return err
	}
	return nil
}

// take stores a new JWT that is good for this leaf and lasts longer than the old one.
func (r *Renewer) take(token string) error {
	return r.Store.Update(func(i *identity.Identity) error {
		public, err := i.PublicKey()
		if err != nil {
			return err
		}
		fresh, err := identity.CheckUser(token, public, i.AccountKey)
		if err != nil {
			return err
		}
		old, err := identity.ReadUser(i.LeafJWT)
		if err != nil {
			return err
		}
		if fresh.Expires < old.Expires {
			return errors.New("the new JWT expires before the old one")
		}
		i.LeafJWT = token
		return nil
	})
}
