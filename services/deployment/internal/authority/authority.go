// Package authority asks the holder of the operator key to revoke agents, and leaves that
// were replaced, and passes what it answers on to the sites.
//
// Nothing here is attempted once and then hoped for. A retired agent's row, or that of a
// former leaf, says that its key is still to be revoked until it is; the newest account JWT is kept, and each
// site's row says which one the site was told of. So the work goes on after a crash at
// any point, and repeating a step does no harm.
package authority

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

const (
	batch = 100
	// lease is how long a claimed revocation is left alone: longer than its answer may
	// take.
	lease    = 30 * time.Second
	patience = 10 * time.Second
)

// again spaces the attempts at a revocation. It is a matter of safety, so they never
// lie far apart.
var again = retry.Policy{Base: time.Second, Cap: time.Minute, Jitter: 0.2}

// Revoker takes revocations to the authority. It is safe for concurrent use.
type Revoker struct {
	DB *pgxpool.Pool
	// NC is a connection in account CORE.
	NC          *nats.Conn
	OperatorJWT string
	Clock       clock.Clock
	Log         *slog.Logger
	// Committed is called after a commit that left something in the outbox.
	Committed func()
}

// ask has the authority revoke keys, and returns the newest account JWT.
func (r *Revoker) ask(ctx context.Context, publicKeys []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	body, err := json.Marshal(command.RevokeUsers{Account: string(natsauth.EDGE), PublicKeys: publicKeys})
	if err != nil {
		return "", fmt.Errorf("encode revocation: %w", err)
	}
	question := nats.NewMsg(subject.Operation("authority", "revokeUsers"))
	question.Data = body
	obs.InjectNATS(ctx, question.Header)
	answer, err := r.NC.RequestMsgWithContext(ctx, question)
	if err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "the authority does not answer")
	}
	var reply command.Reply[command.RevokedUsers]
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return "", fmt.Errorf("decode the authority's answer: %w", err)
	}
	switch {
	case reply.Fault != nil:
		return "", fault.New(fault.Code(reply.Fault.Code), "the authority refuses: %s", reply.Fault.Message)
	case reply.Body == nil || reply.Body.AccountJWT == "":
		return "", errors.New("the authority's answer holds no account JWT")
	}
	return reply.Body.AccountJWT, nil
}

// Revoke takes revocations that are due to the authority, and returns how many.
func (r *Revoker) Revoke(ctx context.Context) (int, error) {
	due, err := r.claim(ctx)
	n := len(due.agents) + len(due.leaves)
	if err != nil || n == 0 {
		return 0, err
	}
	token, err := r.ask(ctx, due.keys)
	if err == nil {
		err = r.finish(ctx, due, token)
	}
	if err != nil {
		until := r.Clock.Now().Add(again.Delay(due.attempts, nil))
		return n, errors.Join(
			fmt.Errorf("revoke %d keys, attempt %d: %w", n, due.attempts, err),
			postgres.PostponeRevocations(ctx, r.DB, due.agents, until),
			postgres.PostponeReplacedLeaves(ctx, r.DB, due.leaves, until),
		)
	}
	r.Log.InfoContext(ctx, "keys revoked", obs.KeyCount, n)
	return n, nil
}

// claimed is what is to be revoked: agents by their ids and former leaves by their keys.
type claimed struct {
	agents, leaves []string
	// keys are those of all.
	keys     []string
	attempts int
}

func (r *Revoker) claim(ctx context.Context) (claimed, error) {
	var c claimed
	now := r.Clock.Now()
	agents, err := postgres.ClaimRevocations(ctx, r.DB, now, lease, batch)
	if err != nil {
		return c, err
	}
	for _, a := range agents {
		c.agents, c.keys = append(c.agents, a.AgentID), append(c.keys, a.PublicKey)
		c.attempts = max(c.attempts, a.Attempts)
	}
	leaves, err := postgres.ClaimReplacedLeaves(ctx, r.DB, now, lease, batch)
	if err != nil {
		return c, err
	}
	for _, l := range leaves {
		c.leaves, c.keys = append(c.leaves, l.PublicKey), append(c.keys, l.PublicKey)
		c.attempts = max(c.attempts, l.Attempts)
	}
	return c, nil
}

// finish notes in one transaction that keys are revoked, the account JWT that says so,
// and what is to be told of it.
func (r *Revoker) finish(ctx context.Context, revoked claimed, accountJWT string) error {
	err := pg.InTx(ctx, r.DB, func(tx pgx.Tx) error {
		now := r.Clock.Now()
		if err := r.keep(ctx, tx, accountJWT); err != nil {
			return err
		}
		if err := postgres.FinishReplacedLeaves(ctx, tx, revoked.leaves, now); err != nil {
			return err
		}
		done, err := postgres.FinishRevocations(ctx, tx, revoked.agents, now)
		if err != nil {
			return err
		}
		messages := make([]outbox.Message, len(done))
		for i, d := range done {
			retired := event.AgentRetired{AgentID: d.AgentID, SiteID: d.SiteID}
			if messages[i], err = outgoing.Event(retired, d.Revision, now, outgoing.Cause{}); err != nil {
				return err
			}
		}
		return outbox.Insert(ctx, tx, messages...)
	})
	if err == nil {
		r.Committed()
	}
	return err
}

// keep stores an account JWT if it is newer than the one that is kept.
func (r *Revoker) keep(ctx context.Context, tx pgx.Tx, accountJWT string) error {
	if _, err := natsauth.Newer(r.OperatorJWT, "", accountJWT); err != nil {
		return fmt.Errorf("account JWT: %w", err)
	}
	_, err := postgres.NoteAccount(ctx, tx, accountJWT, func(current string) bool {
		_, err := natsauth.Newer(r.OperatorJWT, current, accountJWT)
		return err == nil
	})
	return err
}

// Keep stores the account JWT that the service was started with.
func (r *Revoker) Keep(ctx context.Context, accountJWT string) error {
	return pg.InTx(ctx, r.DB, func(tx pgx.Tx) error { return r.keep(ctx, tx, accountJWT) })
}

// Catch asks for the newest account JWT, which may be newer than what the service was
// started with.
func (r *Revoker) Catch(ctx context.Context) error {
	token, err := r.ask(ctx, []string{})
	if err != nil {
		return err
	}
	return r.Keep(ctx, token)
}

// Tell orders sites that were not told of the newest account JWT to apply it, and
// returns how many.
func (r *Revoker) Tell(ctx context.Context) (n int, err error) {
	err = pg.InTx(ctx, r.DB, func(tx pgx.Tx) error {
		account, err := postgres.ReadAccount(ctx, tx)
		if err != nil {
			return err
		}
		sites, err := postgres.StaleSites(ctx, tx, account.Revision, batch)
		n = len(sites)
		if err != nil || n == 0 {
			return err
		}
		messages := make([]outbox.Message, n)
		for i, site := range sites {
			if messages[i], err = outgoing.Account(site, account.JWT, account.Revision, r.Clock.Now()); err != nil {
				return err
			}
		}
		if err := postgres.MarkSitesFresh(ctx, tx, sites, account.Revision); err != nil {
			return err
		}
		return outbox.Insert(ctx, tx, messages...)
	})
	if err == nil && n > 0 {
		r.Committed()
	}
	return n, err
}
