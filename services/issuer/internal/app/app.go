// Package app wires the issuer together.
package app

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/httpapi"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/issuer/internal/advice"
	"github.com/certctl/certctl/services/issuer/internal/api"
	"github.com/certctl/certctl/services/issuer/internal/bulk"
	"github.com/certctl/certctl/services/issuer/internal/bus"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
	"github.com/certctl/certctl/services/issuer/internal/ca/token"
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
	CAKeyPassword         string
	// Signer is the socket of the signer of keys in a token; empty if there is none.
	Signer             string
	StepCA             StepCA
	OpenSSL            OpenSSL
	ACME               ACME
	DigiCert           DigiCert
	Sweep, CSRDeadline time.Duration
	// RenewalSweep is how often certificates are looked at without being told of any, MaxRenewals how many renewals of an
	// issuer may be under way of their own accord.
	RenewalSweep time.Duration
	MaxRenewals  int
	// AdviceSweep is how often it is seen that there is a new version whose CA may say when to renew it.
	AdviceSweep time.Duration
	// ServerKeys has the server make the keys that nobody else will, for demonstrations.
	ServerKeys bool

	token local.Token // by Signer; nil if there is none
}

// openToken has CAs reach the signer, if there is one. What it returns lets go of that.
func (s *Settings) openToken() func() {
	if s.Signer == "" {
		return func() {}
	}
	client := token.New(s.Signer)
	s.token = client
	return client.Close
}

// renewalLinger is how long the engine waits after something has changed, so that it looks once after many changes.
const renewalLinger = 250 * time.Millisecond

// bulkSweep is how soon a replica takes up bulk operations that another has left behind.
const bulkSweep = 2 * time.Second

// Run runs the issuer until ctx ends.
func Run(ctx context.Context, settings Settings, deps service.Deps) error {
	relay := deps.Bus.OutboxRelay(deps.DB, deps.Metrics)
	// The workers are woken by the store that they work on.
	var work, renewals *worker.Worker
	wakeCampaigns := func() {}
	hooks := postgres.Hooks{Told: relay.Wake, Due: func() { work.Wake() }, Look: func() { renewals.Wake(); wakeCampaigns() }}
	meters, err := newMeters(deps.Metrics)
	if err != nil {
		return err
	}
	store := postgres.New(deps.DB, hooks)
	given, err := settings.given()
	if err != nil {
		return err
	}
	defer settings.openToken()()
	issuers := registry.New(store, kinds(store, settings, deps), registry.Settings{Sealer: deps.Sealer, Clock: deps.Clock, Given: given})
	records := registry.NewService(store, issuers, deps.Clock)
	targets := deployment.NewTargets(deps.Bus.NC)
	certificates := issuance.New(store, issuers, targets, deps.Clock, deps.Log, settings.issuance(ctx, meters, deps))
	rules := regulation.New(store, certificates.Rules(), targets, deps.Clock, regulation.Settings{})
	keys := regulation.NewKeys(store, certificates.Blocked(), deps.Clock)
	var bulkWork *worker.Worker
	bulkOperations := bulk.New(store, certificates, deps.Clock, deps.Log, func() { bulkWork.Wake() })
	bulkWork = worker.New(bulkOperations, bulkOperations, deps.Clock, deps.Log, bulkSweep)
	campaigns, campaignWork := newCampaigns(store, certificates, issuers, deps)
	wakeCampaigns = func() {
		if campaigns.UnderWay() {
			campaignWork.Wake()
		}
	}
	work = worker.New(certificates, store, deps.Clock, deps.Log, settings.Sweep)
	renewals = worker.New(issuance.Renewals{Service: certificates}, postgres.Looks{Store: store}, deps.Clock, deps.Log, settings.RenewalSweep)
	renewals.Linger = renewalLinger
	if err := provide(ctx, records, issuers, store, deps); err != nil {
		// It may have been told to stop before it had started.
		return unlessStopped(ctx, err)
	}

	answers := api.New(api.Services{
		Certificates: certificates, Issuers: records,
		Organisation: organisation.New(store, deps.Clock), Rules: rules, Keys: keys, Bulk: bulkOperations, Campaigns: campaigns,
		Renewal: issuance.PolicyDesk{Store: store, Now: deps.Clock.Now, Rules: certificates.Rules()},
	}, store, deps.Clock)
	return together(
		ctx, relay,
		func(ctx context.Context) error { return answer(ctx, deps, answers) },
		func(ctx context.Context) error { return rpc.Serve(ctx, deps.Bus.NC, issuers, deps.Log) },
		func(ctx context.Context) error {
			return bus.Follow(ctx, deps.Bus, deps.DB, certificates, deps.Log, hooks)
		},
		func(ctx context.Context) error { return openOthers(ctx, issuers, store, deps) },
		work.Run, certificates.Hold, renewals.Run, bulkWork.Run, campaignWork.Run, newAuthorities(store, deps).Run,
		watchEnds(store, settings, deps),
		func(ctx context.Context) error { return seekAdvice(ctx, store, issuers, deps, settings.AdviceSweep) },
		func(ctx context.Context) error { return forget(ctx, store, deps) },
	)
}

// answer answers HTTP operations until ctx ends.
func answer(ctx context.Context, deps service.Deps, answers http.Handler) error {
	return natshttp.Serve(ctx, deps.Bus.NC, natshttp.Options{
		Service: "issuer", Version: "1.0.0", Operations: httpapi.OperationsOf("issuer"), Log: deps.Log,
	}, answers)
}

// seekAdvice asks CAs when they want their certificates renewed, until ctx ends.
func seekAdvice(ctx context.Context, store *postgres.Store, issuers *registry.Registry, deps service.Deps, sweep time.Duration) error {
	desk := &advice.Desk{Store: store, Issuers: issuers, Clock: deps.Clock, Log: deps.Log, Stopping: ctx.Done()}
	return worker.New(desk, postgres.Questions{Store: store}, deps.Clock, deps.Log, sweep).Run(ctx)
}

// issuance is how certificates are issued, with a warning in the log if that is for demonstrations.
func (s *Settings) issuance(ctx context.Context, m *meters, deps service.Deps) issuance.Settings {
	if s.ServerKeys {
		deps.Log.WarnContext(ctx, "PRIVATE KEYS ARE MADE BY THIS SERVER, which must not be in production", "warning", issuance.ServerKeyWarning)
	}
	return issuance.Settings{
		CSRDeadline: s.CSRDeadline, MaxRenewals: s.MaxRenewals,
		Asked: m.asked, Circuit: m.circuit, FellBack: m.fellBack, Found: m.found,
		ServerKeys: s.ServerKeys, Sealer: deps.Sealer,
	}
}

// provide has the issuers ready that there are from the beginning.
func provide(ctx context.Context, records *registry.Service, issuers *registry.Registry, store *postgres.Store, deps service.Deps) error {
	if err := records.Provide(ctx); err != nil {
		return err
	}
	return openDefault(ctx, issuers, store, deps)
}

// together runs the parts until ctx ends or one fails. The relay outlives them, so that the last commit is published.
func together(ctx context.Context, relay *outbox.Relay, parts ...func(context.Context) error) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var last errgroup.Group
	last.Go(func() error { return relay.Run(background) })
	g, ctx := errgroup.WithContext(ctx)
	for _, part := range parts {
		g.Go(func() error { return part(ctx) })
	}
	err := g.Wait()
	stop()
	return errors.Join(err, last.Wait())
}
