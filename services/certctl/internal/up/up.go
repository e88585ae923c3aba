// Package up runs a whole installation in one process: Postgres and NATS if they are
// private ones, every service, and a leaf for the agents of this host.
//
// The services are the same as those that run apart: each has its own role in Postgres
// and its own user of the bus, and nothing in common with the others but the process.
package up

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/audit"
	"github.com/certctl/certctl/services/certctl/internal/authority"
	"github.com/certctl/certctl/services/certctl/internal/platform"
	"github.com/certctl/certctl/services/deployment"
	"github.com/certctl/certctl/services/gateway"
	"github.com/certctl/certctl/services/issuer"
	"github.com/certctl/certctl/services/revocation"
)

// Config is what an installation in one process reads from its environment.
type Config struct {
	Platform   platform.Config
	Gateway    gateway.Config
	Issuer     issuer.Config
	Deployment deployment.Config
	Audit      audit.Config
	Revocation revocation.Config
	Leaf       LeafConfig

	// Without names services that run apart.
	Without []string
}

// Ready tells whoever started the installation how to reach it.
type Ready struct {
	URL, LeafURL, AdminKeyFile string
	Took                       time.Duration
}

const closeWithin = 20 * time.Second

// installation is one that runs.
type installation struct {
	cfg      Config
	log      *slog.Logger
	platform *platform.Platform

	relyingParty handoff
	mu           sync.Mutex
	registries   []prometheus.Gatherer // under mu
	checks       []*health.Registry    // under mu
}

// Run starts the installation, calls ready once it answers, and runs it until ctx ends
// or a part of it fails. Then it stops services before the bus, and the bus before the
// database.
func Run(ctx context.Context, cfg Config, log *slog.Logger, ready func(Ready)) (err error) {
	begun := time.Now()
	p, err := platform.Open(ctx, cfg.Platform, log)
	if err != nil {
		return unlessTold(ctx, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		err = errors.Join(err, p.Close(closing))
	}()
	in := &installation{cfg: cfg, log: log, platform: p, registries: []prometheus.Gatherer{obs.NewProcessRegistry()}}
	info := Ready{AdminKeyFile: filepath.Join(cfg.Platform.DataDir, "admin.key")}
	return unlessTold(ctx, in.run(ctx, &info, func() {
		info.Took = time.Since(begun)
		ready(info)
	}))
}

// unlessTold takes it for no error that a part broke off because it was told to end,
// also if it was still starting.
func unlessTold(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (in *installation) run(ctx context.Context, info *Ready, ready func()) error {
	listening, leafReady := make(chan string, 1), make(chan string, 1)
	cfg := in.cfg
	cfg.Gateway.AdminKeyFile = info.AdminKeyFile
	cfg.Gateway.RelyingParty = &in.relyingParty
	cfg.Gateway.Metrics = http.HandlerFunc(in.metrics)
	cfg.Gateway.Listening = func(url string) { listening <- url }
	cfg.Revocation.Mount = in.relyingParty.set

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return in.authority(ctx) })
	g.Go(func() error { return in.deployment(ctx, cfg.Deployment) })
	start(ctx, g, in, "issuer", cfg.Issuer, issuer.Run)
	start(ctx, g, in, "audit", cfg.Audit, audit.Run)
	start(ctx, g, in, "revocation", cfg.Revocation, revocation.Run)
	start(ctx, g, in, "gateway", cfg.Gateway, gateway.Run)
	g.Go(func() error { return in.leaf(ctx, func(url string) { leafReady <- url }) })
	g.Go(func() error {
		for info.URL == "" && in.here("gateway") || info.LeafURL == "" {
			select {
			case info.URL = <-listening:
			case info.LeafURL = <-leafReady:
			case <-ctx.Done():
				return nil
			}
		}
		if in.well(ctx) {
			ready()
		}
		return nil
	})
	return g.Wait()
}

// well waits until every service here is ready, and with the gateway all those that it
// needs. It reports false if ctx ends before.
func (in *installation) well(ctx context.Context) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		in.mu.Lock()
		checks := slices.Clone(in.checks)
		in.mu.Unlock()
		if !slices.ContainsFunc(checks, func(c *health.Registry) bool { return !c.Check(ctx).OK }) {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// here tells whether a service runs in this process.
func (in *installation) here(name string) bool { return !slices.Contains(in.cfg.Without, name) }

// start runs one service with what it stands on, unless it runs apart.
func start[C any](ctx context.Context, g *errgroup.Group, in *installation, name string, cfg C, run func(context.Context, C, service.Deps) error) {
	if !in.here(name) {
		return
	}
	g.Go(func() error {
		deps, done, err := in.deps(ctx, name)
		if err != nil {
			return err
		}
		defer done()
		if err := run(ctx, cfg, deps); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// deps makes what a service stands on. done lets go of it.
func (in *installation) deps(ctx context.Context, name string) (deps service.Deps, done func(), err error) {
	pool, err := in.platform.Database.Pool(ctx, name)
	if err != nil {
		return service.Deps{}, nil, err
	}
	registry := obs.NewRegistry()
	conn, err := in.platform.Connect(ctx, natsauth.CORE, name, registry)
	if err != nil {
		pool.Close()
		return service.Deps{}, nil, err
	}
	log := in.log.With(obs.KeyService, name)
	checks := health.New(log)
	in.mu.Lock()
	in.registries = append(in.registries, obs.OfService(name, registry))
	in.checks = append(in.checks, checks)
	in.mu.Unlock()
	checks.Add("database", pool.Ping)
	checks.Add("bus", conn.Health)
	return service.Deps{
		Log: log, DB: pool, Bus: conn, Metrics: registry, Health: checks, Clock: clock.System, Sealer: in.platform.Sealer,
	}, func() { closeBoth(context.WithoutCancel(ctx), conn, pool.Close) }, nil
}

func closeBoth(ctx context.Context, conn *bus.Conn, pool func()) {
	ctx, cancel := context.WithTimeout(ctx, closeWithin)
	defer cancel()
	// What could not be sent before the end is in an outbox.
	_ = conn.Close(ctx)
	pool()
}

func (in *installation) authority(ctx context.Context) error {
	core, err := in.platform.Connect(ctx, natsauth.CORE, platform.UserAuthority, nil)
	if err != nil {
		return err
	}
	defer core.NC.Close()
	system, err := in.platform.Connect(ctx, natsauth.SYS, platform.UserSystem, nil)
	if err != nil {
		return err
	}
	defer system.NC.Close()
	desk := &authority.Desk{
		Authority: in.platform.Authority, Core: core.NC, System: system.NC, Log: in.log.With(obs.KeyService, "authority"),
	}
	return desk.Run(ctx)
}

func (in *installation) metrics(w http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	all := slices.Clone(in.registries)
	in.mu.Unlock()
	obs.MetricsHandler(all...).ServeHTTP(w, r)
}

// DefaultDataDir is where an installation lies unless it is told otherwise.
func DefaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/certctl", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no home folder: set CERTCTL_DATA_DIR: %w", err)
	}
	return filepath.Join(home, ".local", "share", "certctl"), nil
}
