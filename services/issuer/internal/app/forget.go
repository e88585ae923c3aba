package app

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/certctl/certctl/libs/inbox"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// forgetEvery is how often the inbox is cleared of what can come no more.
const forgetEvery = 12 * time.Hour

// forget prunes the inbox, and what was refused or done in bulk long ago, until ctx ends. Replicas do it at different times.
func forget(ctx context.Context, store *postgres.Store, deps service.Deps) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(forgetEvery/2 + rand.N(forgetEvery)): //nolint:gosec // a delay is no secret
		}
		if n, err := inbox.Prune(ctx, deps.DB, inbox.Keep); err != nil {
			deps.Log.WarnContext(ctx, "the inbox could not be pruned", obs.KeyError, err)
		} else if n > 0 {
			deps.Log.InfoContext(ctx, "the inbox was pruned", obs.KeyCount, n)
		}
		if _, err := store.ForgetRefused(ctx, deps.Clock.Now()); err != nil {
			deps.Log.WarnContext(ctx, "violations of what was refused could not be pruned", obs.KeyError, err)
		}
		if n, err := store.ForgetKeys(ctx, deps.Clock.Now()); err != nil {
			deps.Log.WarnContext(ctx, "private keys that nobody has fetched could not be deleted", obs.KeyError, err)
		} else if n > 0 {
			deps.Log.InfoContext(ctx, "private keys were deleted that nobody has fetched", obs.KeyCount, n)
		}
		if n, err := store.PruneBulk(ctx, deps.Clock.Now().Add(-postgres.BulkKeep)); err != nil {
			deps.Log.WarnContext(ctx, "bulk operations could not be pruned", obs.KeyError, err)
		} else if n > 0 {
			deps.Log.InfoContext(ctx, "bulk operations were pruned", obs.KeyCount, n)
		}
	}
}
