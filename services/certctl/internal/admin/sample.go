package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/services/certctl/internal/platform"
	"github.com/certctl/certctl/services/certctl/internal/sample"
)

// addSample fills a running installation with something to look at.
func addSample(ctx context.Context, t *toolbox, _ []string) error {
	return asOwners(ctx, t, func(issuer, deployment *pgxpool.Pool) error {
		inv, err := sample.Add(ctx, issuer, deployment, time.Now().UTC())
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "Added %d certificates in every state, with their versions, jobs, teams, agents and targets. All ids hold \"sample\";\n"+
			"nothing of it is alive, and certctl admin sample-data remove takes it away again.\n", len(inv.Certificates))
		return nil
	})
}

func removeSample(ctx context.Context, t *toolbox, _ []string) error {
	return asOwners(ctx, t, func(issuer, deployment *pgxpool.Pool) error {
		if err := sample.Remove(ctx, issuer, deployment); err != nil {
			return err
		}
		fmt.Fprintln(t.out, "The sample inventory is gone; what the audit trail says of it stays.")
		return nil
	})
}

// asOwners opens the schemas with the roles of the services that own them.
func asOwners(ctx context.Context, t *toolbox, do func(issuer, deployment *pgxpool.Pool) error) error {
	in, err := platform.Attach(t.cfg.Platform, t.log)
	if err != nil {
		return err
	}
	issuer, err := in.Database.Pool(ctx, "issuer")
	if err != nil {
		return err
	}
	defer issuer.Close()
	deployment, err := in.Database.Pool(ctx, "deployment")
	if err != nil {
		return err
	}
	defer deployment.Close()
	return do(issuer, deployment)
}
