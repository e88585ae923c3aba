// Package durable keeps each site's durable consumer on the hub, by which the site's
// leaf draws its orders.
//
// The hub forgets a durable that nobody used for a month, so each is looked after at
// the start, every hour, and whenever a leaf asks for a fresh JWT. One that is there
// and as it should be is left alone.
package durable

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

const (
	batch = 50
	every = time.Hour
	// soon is when a durable that could not be had is tried again.
	soon = 10 * time.Second
)

// Keeper is safe for concurrent use.
type Keeper struct {
	DB *pgxpool.Pool
	// JS is JetStream in account EDGE.
	JS    jetstream.JetStream
	Clock clock.Clock
	Log   *slog.Logger
}

// Ensure makes the durable of a site, or brings it into line.
func (k *Keeper) Ensure(ctx context.Context, siteID string) error {
	spec := stream.Site(siteID)
	there, err := k.JS.Consumer(ctx, spec.Stream, spec.Config.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		_, err = k.JS.CreateConsumer(ctx, spec.Stream, spec.Config)
	case err == nil && !inLine(there.CachedInfo().Config, spec.Config):
		_, err = k.JS.UpdateConsumer(ctx, spec.Stream, spec.Config)
	}
	if err != nil {
		return fmt.Errorf("durable of %s: %w", siteID, err)
	}
	return nil
}

func inLine(have, want jetstream.ConsumerConfig) bool {
	filters := have.FilterSubjects
	if have.FilterSubject != "" {
		filters = []string{have.FilterSubject}
	}
	return slices.Equal(filters, want.FilterSubjects) && have.AckWait == want.AckWait && have.MaxDeliver == want.MaxDeliver &&
		have.MaxAckPending == want.MaxAckPending && have.InactiveThreshold == want.InactiveThreshold
}

// Due looks after sites whose turn it is, and returns how many.
func (k *Keeper) Due(ctx context.Context) (int, error) {
	now := k.Clock.Now()
	sites, err := postgres.ClaimSites(ctx, k.DB, now, now.Add(every), batch)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, site := range sites {
		if err := k.Ensure(ctx, site); err != nil {
			errs = append(errs, err, postgres.EnsureSiteAt(ctx, k.DB, site, now.Add(soon)))
			continue
		}
		k.Log.DebugContext(ctx, "durable is there", obs.KeySite, site)
	}
	return len(sites), errors.Join(errs...)
}
