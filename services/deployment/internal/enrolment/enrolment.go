// Package enrolment gives identities: to agents and leaves that come with a one-time
// token, and fresh ones to those that have one.
//
// A host makes its own key and sends the public half; what it gets is a JWT for it. A
// token makes one identity, and only the key that it made may come again with it,
// because the first answer may have been lost on the way.
package enrolment

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// Office is safe for concurrent use.
type Office struct {
	DB     *pgxpool.Pool
	Signer *natsauth.EdgeSigner
	// PlatformKey is what new agents pin.
	PlatformKey string
	// HubURLs is where leaves reach the hub.
	HubURLs []string
	Clock   clock.Clock
	// EnsureSite makes sure that the hub holds a site's durable.
	EnsureSite func(ctx context.Context, siteID string) error
	// Committed is called after a commit that left something to be done or said.
	Committed func()
}

// Agent makes an agent of a host with a token: token, agent and event in one
// transaction. A host that asks again with the same key is the same agent.
func (o *Office) Agent(ctx context.Context, siteID, tokenID string, ask command.EnrolRequest) (command.EnrolReply, error) {
	if err := checkKey(ask.PublicKey); err != nil {
		return command.EnrolReply{}, err
	}
	token := fleet.Token{ID: tokenID, Kind: fleet.TokenOfAgent, SiteID: siteID, Hash: fleet.HashSecret(ask.Secret)}
	reply := command.EnrolReply{SiteID: siteID, PlatformKey: o.PlatformKey}
	err := pg.InTx(ctx, o.DB, func(tx pgx.Tx) error {
		now := o.Clock.Now()
		if err := postgres.RedeemToken(ctx, tx, token, ask.PublicKey, now); err != nil {
			return err
		}
		agent, err := postgres.AgentByKey(ctx, tx, ask.PublicKey)
		switch {
		case fault.CodeOf(err) == fault.NotFound:
			agent, err = register(ctx, tx, siteID, ask, now)
		case err == nil && (agent.SiteID != siteID || agent.Status == fleet.Retired):
			err = fault.New(fault.Conflict, "this key belongs to agent %s, which cannot enrol again; make a new key", agent.ID)
		}
		if err != nil {
			return err
		}
		reply.AgentID = agent.ID
		reply.UserJWT, err = o.Signer.Agent(agent.ID, siteID, agent.PublicKey, natsauth.JWTLife)
		return err
	})
	if err != nil {
		return command.EnrolReply{}, err
	}
	o.Committed()
	return reply, nil
}

func checkKey(publicKey string) error {
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return fault.InvalidFields(fault.Field{Name: "public_key", Reason: "is not the public half of a user nkey"})
	}
	return nil
}

func register(ctx context.Context, tx pgx.Tx, siteID string, ask command.EnrolRequest, now time.Time) (fleet.Agent, error) {
	told := fleet.Clean(ask.Heartbeat)
	a := fleet.Agent{
		ID: id.New("agent-"), SiteID: siteID, PublicKey: ask.PublicKey,
		Name: told.Name, Hostname: told.Hostname, OS: told.OS, Architecture: told.Architecture,
		IPAddress: told.IPAddress, Version: told.Version,
		Status: fleet.Online, HeardAt: now, RegisteredAt: now, Revision: 1,
	}
	if a.Name == "" {
		a.Name = a.Hostname
	}
	if err := postgres.InsertAgent(ctx, tx, a); err != nil {
		return a, err
	}
	return a, say(ctx, tx, event.AgentRegistered{
		AgentID: a.ID, SiteID: a.SiteID, Name: a.Name, Hostname: a.Hostname, OS: a.OS, Architecture: a.Architecture, Version: a.Version,
	}, a.Revision, now)
}

func say(ctx context.Context, tx pgx.Tx, e event.Event, revision int64, now time.Time) error {
	m, err := outgoing.Event(e, revision, now, outgoing.CauseOf(ctx))
	if err != nil {
		return err
	}
	return outbox.Insert(ctx, tx, m)
}

// AgentToken makes a token for a new agent of a site. It works at the site's leaf:
// the bearer JWT inside may ask there to be enrolled, and nothing else.
func (o *Office) AgentToken(ctx context.Context, siteID string, life time.Duration) (fleet.Token, string, error) {
	now := o.Clock.Now()
	token := fleet.Token{ID: id.New("et-"), Kind: fleet.TokenOfAgent, SiteID: siteID, ExpiresAt: now.Add(life)}
	bearer, err := o.Signer.Enrol(token.ID, siteID, life)
	if err != nil {
		return token, "", fmt.Errorf("make token of site %s: %w", siteID, err)
	}
	return store(ctx, o.DB, token, bearer, now)
}

// SiteToken makes a token for the leaf of a site, in the transaction that makes the
// site.
func (o *Office) SiteToken(ctx context.Context, tx pgx.Tx, siteID string) (fleet.Token, string, error) {
	now := o.Clock.Now()
	token := fleet.Token{ID: id.New("et-"), Kind: fleet.TokenOfSite, SiteID: siteID, ExpiresAt: now.Add(fleet.SiteTokenLife)}
	return store(ctx, tx, token, "", now)
}

func store(ctx context.Context, db postgres.Querier, t fleet.Token, bearer string, now time.Time) (fleet.Token, string, error) {
	secret := fleet.NewSecret()
	t.Hash = fleet.HashSecret(secret)
	text, err := fleet.EncodeToken(command.EnrolmentToken{ID: t.ID, SiteID: t.SiteID, Secret: secret, JWT: bearer})
	if err != nil {
		return t, "", err
	}
	return t, text, postgres.InsertToken(ctx, db, t, now)
}

// RefreshAgent gives an agent a fresh JWT. Who asks is taken from the subject.
func (o *Office) RefreshAgent(ctx context.Context, who subject.Agent) (command.RefreshReply, error) {
	a, err := postgres.Agent(ctx, o.DB, who.Agent)
	switch {
	case err != nil:
		return command.RefreshReply{}, err
	case a.SiteID != who.Site:
		return command.RefreshReply{}, fault.New(fault.Forbidden, "agent %s is not of site %s", a.ID, who.Site)
	case a.Status == fleet.Retired:
		return command.RefreshReply{}, fault.New(fault.Forbidden, "agent %s is retired", a.ID)
	}
	token, err := o.Signer.Agent(a.ID, a.SiteID, a.PublicKey, natsauth.JWTLife)
	return command.RefreshReply{UserJWT: token}, err
}
