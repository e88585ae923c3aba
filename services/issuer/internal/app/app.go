// Package app wires the issuer together.
package app

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/httpapi"
	libbus "github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/issuer/internal/api"
	"github.com/certctl/certctl/services/issuer/internal/bus"
	"github.com/certctl/certctl/services/issuer/internal/deployment"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/organisation"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/regulation"
	"github.com/certctl/certctl/services/issuer/internal/rpc"
	"github.com/certctl/certctl/services/issuer/internal/worker"
)

// Settings are the issuer's settings. Zero durations are the defaults.
type Settings struct {
	PublicURL             string
	CACertPath, CAKeyPath string
	StepCA                StepCA
	OpenSSL               OpenSSL
	ACME                  ACME
	Sweep, CSRDeadline    time.Duration
}

// Run runs the issuer until ctx ends.
func Run(ctx context.Context, settings Settings, deps service.Deps) error {
	relay := &outbox.Relay{Pool: deps.DB, Publish: libbus.OutboxPublish(deps.Bus.JS), Log: deps.Log, Metrics: deps.Metrics}
	// The worker is woken by the store that it works on.
	var work *worker.Worker
	hooks := postgres.Hooks{Told: relay.Wake, Due: func() { work.Wake() }}
	asked, err := meter(deps.Metrics)
	if err != nil {
		return err
	}
	store := postgres.New(deps.DB, hooks)
	given, err := settings.given()
	if err != nil {
		return err
	}
	issuers := registry.New(store, kinds(store, settings, deps), registry.Settings{Sealer: deps.Sealer, Clock: deps.Clock, Given: given})
	records := registry.NewService(store, issuers, deps.Clock)
	targets := deployment.NewTargets(deps.Bus.NC)
	certificates := issuance.New(store, issuers, targets, deps.Clock, deps.Log,
		issuance.Settings{CSRDeadline: settings.CSRDeadline, Asked: asked})
	rules := regulation.New(store, certificates.Rules(), targets, deps.Clock, regulation.Settings{})
	work = worker.New(certificates, store, deps.Clock, deps.Log, settings.Sweep)
	if err = records.Provide(ctx); err == nil {
		err = openDefault(ctx, issuers, store, deps)
	}
	if err != nil {
		if ctx.Err() != nil {
			// Told to stop before it had started.
			return nil
		}
		return err
	}

	// The relay outlives the rest, so that the last commit is published.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var last errgroup.Group
	last.Go(func() error { return relay.Run(background) })

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return natshttp.Serve(ctx, deps.Bus.NC, natshttp.Options{
			Service: "issuer", Version: "1.0.0", Operations: httpapi.OperationsOf("issuer"), Log: deps.Log,
		}, api.New(api.Services{
			Certificates: certificates, Issuers: records,
			Organisation: organisation.New(store, deps.Clock), Rules: rules,
		}, store))
	})
	g.Go(func() error { return rpc.Serve(ctx, deps.Bus.NC, issuers, deps.Log) })
	g.Go(func() error { return bus.Follow(ctx, deps.Bus, deps.DB, certificates, deps.Log, hooks) })
	g.Go(func() error { return openOthers(ctx, issuers, store, deps) })
	g.Go(func() error { return work.Run(ctx) })
	g.Go(func() error { return forget(ctx, store, deps) })
	err = g.Wait()
	stop()
	return errors.Join(err, last.Wait())
}
