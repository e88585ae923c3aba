package enrolment

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// ReplaceLeaf makes a token for another leaf of a site that is there. Tokens of the site
// that nobody has used are void from then on; the leaf before works until the token is
// used.
func (o *Office) ReplaceLeaf(ctx context.Context, siteID string) (token fleet.Token, text string, err error) {
	if siteID == fleet.LocalSite {
		return token, "", fault.New(fault.Conflict, "the leaf of site %s is a part of this installation, which gives it its credential itself", siteID)
	}
	err = pg.InTx(ctx, o.DB, func(tx pgx.Tx) error {
		if err := postgres.LockSite(ctx, tx, siteID); err != nil {
			return err
		}
		if err := postgres.VoidTokens(ctx, tx, siteID); err != nil {
			return err
		}
		token, text, err = o.SiteToken(ctx, tx, siteID)
		return err
	})
	return token, text, err
}
