package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/config"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/libs/secret"
)

const (
	// How long a start waits for Postgres and NATS before it gives up and leaves the next try to the supervisor.
	startTimeout = 2 * time.Minute
	closeTimeout = 10 * time.Second
)

// Main runs a service as a process of its own: the whole of a cmd/<service>/main.go. The name is that of its schema and
// of its user in NATS; cfg points to the zero value of its configuration. It does not return: the process exits with 0
// when the service ended because it was told to, with 1 when it failed, with 2 when it was given arguments.
func Main[C any](name string, cfg *C, run func(context.Context, C, Deps) error) {
	if len(os.Args) > 1 {
		os.Exit(help(name, cfg, os.Args[1:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// From the first signal on the next one has its ordinary effect.
	context.AfterFunc(ctx, stop)
	if err := start(ctx, name, cfg, run); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, obs.Redact(err.Error()))
		os.Exit(1)
	}
	os.Exit(0)
}

func help(name string, cfg any, args []string) int {
	vars, err := Variables(name, cfg)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, err)
		return 1
	}
	if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		printUsage(os.Stdout, name, vars)
		return 0
	}
	printUsage(os.Stderr, name, vars)
	return 2
}

// process is a service process while it runs. It owns what its Deps hold.
type process struct {
	name     string
	settings Settings
	deps     Deps
	closers  []func(context.Context) error
}

func start[C any](ctx context.Context, name string, cfg *C, run func(context.Context, C, Deps) error) (err error) {
	p := &process{name: name}
	probe, err := p.configure(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close(context.WithoutCancel(ctx))) }()
	stopTracing, err := obs.StartTracing(ctx, "certctl-"+name)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, stopTracing)

	// Probes are answered while the process waits for what it needs, and until it has let go of it again.
	probeCtx, stopProbes := context.WithCancel(context.WithoutCancel(ctx))
	defer stopProbes()
	g, probeCtx := errgroup.WithContext(probeCtx)
	if probe.HealthAddr != "" {
		server, err := httpx.Open(ctx, httpx.Listener{Address: probe.HealthAddr, Public: true, Log: p.deps.Log})
		if err != nil {
			return err
		}
		p.deps.Log.Info("answering probes", "url", server.URL())
		g.Go(func() error { return server.Serve(probeCtx, p.probeHandler()) })
	}
	g.Go(func() error {
		defer stopProbes()
		return p.run(ctx, func(ctx context.Context) error { return run(ctx, *cfg, p.deps) })
	})
	return g.Wait()
}

func (p *process) configure(cfg any) (probes, error) {
	var probe probes
	err := errors.Join(config.Load(prefix, &p.settings), config.Load(probePrefix(p.name), &probe), config.Load(prefix, cfg))
	if err != nil {
		return probe, fmt.Errorf("read the environment: %w", err)
	}
	log, err := obs.NewLogger(os.Stderr, p.settings.LogLevel, p.settings.LogFormat)
	if err != nil {
		return probe, err
	}
	log = log.With(obs.KeyService, p.name)
	slog.SetDefault(log)
	vars, err := Variables(p.name, cfg)
	if err != nil {
		return probe, err
	}
	warnOfUnknown(log, vars)
	p.deps = Deps{Log: log, Metrics: obs.NewProcessRegistry(), Health: health.New(log), Clock: clock.System}
	p.deps.Health.Add("start", func(context.Context) error {
		return fault.New(fault.Unavailable, "the service is starting")
	})
	return probe, nil
}

func (p *process) run(ctx context.Context, run func(context.Context) error) error {
	if err := p.open(ctx); err != nil {
		if ctx.Err() != nil {
			p.deps.Log.Info("stopped before it had started", obs.KeyError, err)
			return nil
		}
		return err
	}
	p.deps.Health.Add("start", func(context.Context) error { return nil })
	p.deps.Log.Info("started")
	err := run(ctx)
	if err == nil && ctx.Err() == nil {
		err = errors.New("the service ended without having been told to")
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	p.deps.Log.Info("stopped")
	return err
}

// open fills Deps with what lies outside the process.
func (p *process) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if p.settings.SealingKeyFile != "" {
		sealer, err := secret.Open(p.settings.SealingKeyFile)
		if err != nil {
			return err
		}
		p.deps.Sealer = sealer
	}
	pool, err := pg.Open(ctx, p.settings.DatabaseURL, pg.Options{
		MaxConns: p.settings.DatabaseMaxConns, AppName: "certctl-" + p.name, Schema: p.name, ConnectTimeout: startTimeout,
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func(context.Context) error {
		pool.Close()
		return nil
	})
	conn, err := bus.Connect(bus.Options{
		URL: p.settings.NatsURL, CredsFile: p.settings.NatsCredsFile, Name: p.name,
		InboxPrefix: "_INBOX_" + p.name, Log: p.deps.Log, Metrics: p.deps.Metrics,
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, conn.Close)
	if err := conn.Ready(ctx); err != nil {
		return err
	}
	p.deps.DB, p.deps.Bus = pool, conn
	p.deps.Health.Add("database", pool.Ping)
	p.deps.Health.Add("nats", conn.Health)
	return nil
}

// close releases what was opened, the last first.
func (p *process) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		errs = append(errs, c(ctx))
	}
	return errors.Join(errs...)
}

func (p *process) probeHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /health", p.deps.Health.LiveHandler())
	mux.Handle("GET /ready", p.deps.Health.ReadyHandler())
	mux.Handle("GET /metrics", obs.MetricsHandler(p.deps.Metrics))
	mux.HandleFunc("/", httpx.NotFound)
	return mux
}
