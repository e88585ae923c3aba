// Package authority answers for the operator key, which nothing else holds: on request
// it revokes users of an account, and sees that the servers apply it at once.
//
// Who may ask is decided by the permissions of the bus: the deployment service, and
// nobody else.
package authority

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/obs"
)

const pushWithin = 5 * time.Second

// Desk takes the requests.
type Desk struct {
	Authority *natsauth.Authority
	// Core is a connection in account CORE, System one in SYS.
	Core, System *nats.Conn
	Log          *slog.Logger
}

// Run answers until ctx ends. On its start it gives the servers the newest account
// JWTs, which a crash may have kept from them.
func (d *Desk) Run(ctx context.Context) error {
	for _, account := range []natsauth.Account{natsauth.EDGE, natsauth.EXT} {
		if err := d.push(ctx, account); err != nil {
			return err
		}
	}
	sub, err := d.Core.QueueSubscribe(subject.Operation("authority", "revokeUsers"), "authority", func(m *nats.Msg) {
		d.answer(ctx, m)
	})
	if err != nil {
		return fmt.Errorf("listen for revocations: %w", err)
	}
	<-ctx.Done()
	return sub.Drain()
}

func (d *Desk) answer(ctx context.Context, m *nats.Msg) {
	var reply command.Reply[command.RevokedUsers]
	revoked, err := d.revoke(ctx, m.Data)
	if err != nil {
		f := fault.From(err)
		d.Log.Error("users were not revoked", obs.KeyError, err)
		reply.Fault = &command.Fault{Code: string(f.Code), Message: f.Message}
	} else {
		reply.Body = &revoked
	}
	body, err := json.Marshal(reply)
	if err != nil {
		d.Log.Error("reply cannot be encoded", obs.KeyError, err)
		return
	}
	if err := m.Respond(body); err != nil {
		d.Log.Error("reply was not sent", obs.KeyError, err)
	}
}

func (d *Desk) revoke(ctx context.Context, body []byte) (command.RevokedUsers, error) {
	var asked command.RevokeUsers
	if err := json.Unmarshal(body, &asked); err != nil {
		return command.RevokedUsers{}, fault.Wrap(err, fault.Invalid, "the request cannot be read")
	}
	account := natsauth.Account(asked.Account)
	if account != natsauth.EDGE && account != natsauth.EXT {
		return command.RevokedUsers{}, fault.New(fault.Invalid, "users of account %q are not revoked here", asked.Account)
	}
	for _, key := range asked.PublicKeys {
		if !nkeys.IsValidPublicUserKey(key) {
			return command.RevokedUsers{}, fault.New(fault.Invalid, "%q is no user's key", key)
		}
	}
	token, err := d.Authority.Revoke(account, asked.PublicKeys)
	if err != nil {
		return command.RevokedUsers{}, fmt.Errorf("revoke %d users: %w", len(asked.PublicKeys), err)
	}
	if err := d.push(ctx, account); err != nil {
		return command.RevokedUsers{}, fault.Wrap(err, fault.Unavailable, "the servers did not take the revocation yet")
	}
	if len(asked.PublicKeys) > 0 {
		d.Log.Info("users revoked", "account", asked.Account, obs.KeyCount, len(asked.PublicKeys))
	}
	return command.RevokedUsers{AccountJWT: token}, nil
}

func (d *Desk) push(ctx context.Context, account natsauth.Account) error {
	token, err := d.Authority.AccountJWT(account)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pushWithin)
	defer cancel()
	if err := natsauth.PushAccount(ctx, d.System, token); err != nil {
		return fmt.Errorf("give the servers the JWT of %s: %w", account, err)
	}
	return nil
}
