package enrolment

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// Identity is all that a leaf needs to run its site.
type Identity struct {
	SiteID string
	// LeafJWT is for the link to the hub, RelayJWT for the leaf's connection to its own
	// server.
	LeafJWT, RelayJWT string
	// OperatorJWT and AccountJWT are what the leaf's server trusts.
	OperatorJWT, AccountJWT string
	AccountKey              string
	HubURLs                 []string
	PlatformKey             string
}

// Site gives a leaf with a token its identity.
func (o *Office) Site(ctx context.Context, siteID, tokenText, publicKey string) (Identity, error) {
	if err := checkKey(publicKey); err != nil {
		return Identity{}, err
	}
	carried, err := fleet.DecodeToken(tokenText)
	if err != nil {
		return Identity{}, err
	}
	if carried.SiteID != siteID {
		return Identity{}, fault.InvalidFields(fault.Field{Name: "token", Reason: "is of another site"})
	}
	if len(o.HubURLs) == 0 {
		return Identity{}, fault.New(fault.Unavailable,
			"this installation names no address at which leaves reach it; set CERTCTL_DEPLOYMENT_HUB_ADDRESSES and try again")
	}
	who, err := o.identity(siteID, publicKey)
	if err != nil {
		return Identity{}, err
	}
	token := fleet.Token{ID: carried.ID, Kind: fleet.TokenOfSite, SiteID: siteID, Hash: fleet.HashSecret(carried.Secret)}
	err = pg.InTx(ctx, o.DB, func(tx pgx.Tx) error {
		now := o.Clock.Now()
		if err := postgres.RedeemToken(ctx, tx, token, publicKey, now); err != nil {
			return err
		}
		account, err := postgres.ReadAccount(ctx, tx)
		if err != nil {
			return err
		}
		who.AccountJWT = account.JWT
		switch replaced, err := postgres.WasReplaced(ctx, tx, publicKey); {
		case err != nil:
			return err
		case replaced:
			return fault.New(fault.Conflict, "this key is that of a leaf that was replaced; a new leaf makes a key of its own")
		}
		revision, before, err := postgres.ConnectSite(ctx, tx, siteID, publicKey, account.Revision, now)
		if err != nil || revision == 0 {
			return err
		}
		if before != "" {
			if err := postgres.ReplaceLeaf(ctx, tx, siteID, before, now); err != nil {
				return err
			}
		}
		return say(ctx, tx, event.SiteConnected{SiteID: siteID}, revision, now)
	})
	if err != nil {
		return Identity{}, err
	}
	o.Committed()
	return who, o.EnsureSite(ctx, siteID)
}

func (o *Office) identity(siteID, publicKey string) (Identity, error) {
	leaf, err := o.Signer.Leaf(siteID, publicKey)
	if err != nil {
		return Identity{}, err
	}
	relay, err := o.Signer.Relay(siteID, publicKey)
	if err != nil {
		return Identity{}, err
	}
	return Identity{
		SiteID: siteID, LeafJWT: leaf, RelayJWT: relay, OperatorJWT: o.Signer.OperatorJWT(), AccountKey: o.Signer.AccountKey(),
		HubURLs: o.HubURLs, PlatformKey: o.PlatformKey,
	}, nil
}

// RefreshSite gives a leaf a fresh JWT, and the newest JWT of its account, in case an
// order that brought it was missed. The hub may have forgotten the site's durable
// while the leaf was away, so it is looked after as well.
func (o *Office) RefreshSite(ctx context.Context, siteID string) (command.RefreshReply, error) {
	site, err := postgres.ReadSite(ctx, o.DB, siteID)
	if err != nil {
		return command.RefreshReply{}, err
	}
	if site.PublicKey == "" {
		return command.RefreshReply{}, fault.New(fault.Forbidden, "site %s has not enrolled", siteID)
	}
	account, err := postgres.ReadAccount(ctx, o.DB)
	if err != nil {
		return command.RefreshReply{}, err
	}
	token, err := o.Signer.Leaf(siteID, site.PublicKey)
	if err != nil {
		return command.RefreshReply{}, err
	}
	if err := o.EnsureSite(ctx, siteID); err != nil {
		return command.RefreshReply{}, fmt.Errorf("refresh site %s: %w", siteID, err)
	}
	return command.RefreshReply{UserJWT: token, AccountJWT: account.JWT}, nil
}

// Local notes the key of the leaf that runs beside this service for the local site.
func (o *Office) Local(ctx context.Context, publicKey string) error {
	if err := checkKey(publicKey); err != nil {
		return fmt.Errorf("key of the local leaf: %w", err)
	}
	return pg.InTx(ctx, o.DB, func(tx pgx.Tx) error {
		now := o.Clock.Now()
		revision, _, err := postgres.ConnectSite(ctx, tx, fleet.LocalSite, publicKey, 0, now)
		if err != nil || revision == 0 {
			return err
		}
		return say(ctx, tx, event.SiteConnected{SiteID: fleet.LocalSite}, revision, now)
	})
}
