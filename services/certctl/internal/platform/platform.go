// Package platform makes ready what the services stand on: the sealing key, Postgres
// with a schema and a role for each, NATS with an account, a user and exact permissions
// for each, and the streams.
//
// Everything lies in one data folder, which one process uses at a time. By default
// Postgres and NATS are private ones inside or beside this process; with
// CERTCTL_DATABASE_URL or CERTCTL_NATS_URL they are somebody else's, and nothing else is
// different.
package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/secret"
	"github.com/certctl/certctl/services/certctl/internal/hub"
)

// Config is read from CERTCTL_*.
type Config struct {
	DataDir          string `split_words:"true" desc:"Folder of all that must survive. Default: /var/lib/certctl for root, else ~/.local/share/certctl."`
	DatabaseURL      string `split_words:"true" secret:"true" desc:"A Postgres of your own, as a user who may create roles. Default: a private one in the data folder."`
	DatabaseMaxConns int32  `split_words:"true" default:"25" desc:"Connections to Postgres, of all services together."`
	PostgresBin      string `split_words:"true" desc:"Folder of initdb and postgres, if not found by themselves."`
	PeersDir         string `split_words:"true" default:".peers" desc:"Folder into which make peers fetched what the machine lacks."`
	NatsURL          string `split_words:"true" desc:"A NATS of your own, set up with certctl admin nats-config. Default: a server inside this process."`
	NatsListen       string `split_words:"true" desc:"Loopback address on which the server inside takes services that run apart, such as 127.0.0.1:4222. Default: none."`
	NatsLeafListen   string `split_words:"true" default:"127.0.0.1:0" desc:"Loopback address on which the server inside takes leaves. Port 0 takes a free one."`
	NatsMaxBytes     int64  `split_words:"true" default:"4294967296" desc:"Disk for streams, in bytes. They share it in proportion."`
}

// minNatsBytes is the least that leaves every stream room for a burst.
const minNatsBytes = 512 << 20

// Validate implements the check of libs/config.
func (c *Config) Validate() error {
	if c.NatsMaxBytes < minNatsBytes {
		return fmt.Errorf("CERTCTL_NATS_MAX_BYTES must be at least %d", minNatsBytes)
	}
	if int(c.DatabaseMaxConns) < 2*len(Services) {
		return fmt.Errorf("CERTCTL_DATABASE_MAX_CONNS must be at least %d", 2*len(Services))
	}
	return nil
}

// Platform is what the services stand on.
type Platform struct {
	Database  *Database
	Authority *natsauth.Authority
	Sealer    *secret.Sealer
	// Hub is the server inside this process, nil with a NATS of one's own.
	Hub *hub.Hub

	config Config
	log    *slog.Logger

	made []string // streams that were not there
}

// Open makes everything ready. Close ends it.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Platform, error) {
	sealer, err := seal(cfg)
	if err != nil {
		return nil, err
	}
	p := &Platform{Sealer: sealer, config: cfg, log: log}
	// The two servers are independent, and starting is most of the wait.
	g, starting := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		p.Database, err = openDatabase(starting, cfg, sealer, log)
		return err
	})
	g.Go(func() error { return p.openBus(starting) })
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, p.Close(context.WithoutCancel(ctx)))
	}
	if err := p.refill(ctx); err != nil {
		return nil, errors.Join(err, p.Close(context.WithoutCancel(ctx)))
	}
	if err := p.announce(); err != nil {
		return nil, errors.Join(err, p.Close(context.WithoutCancel(ctx)))
	}
	return p, nil
}

// seal opens the sealing key of the data folder, which it makes if need be.
func seal(cfg Config) (*secret.Sealer, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o711); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	return secret.LoadOrCreateKey(sealingKeyFile(cfg))
}

// Identities opens the identities of the bus, which it makes if there are none.
func Identities(cfg Config) (*natsauth.Authority, error) {
	sealer, err := seal(cfg)
	if err != nil {
		return nil, err
	}
	return natsauth.Open(authorityDir(cfg), sealer, authorityConfig())
}

func sealingKeyFile(cfg Config) string { return filepath.Join(cfg.DataDir, "sealing.key") }
func authorityDir(cfg Config) string   { return filepath.Join(cfg.DataDir, "authority") }
func authorityConfig() natsauth.Config { return natsauth.Config{Roles: roles(), Limits: limits()} }

func (p *Platform) openBus(ctx context.Context) (err error) {
	if p.Authority, err = natsauth.Open(authorityDir(p.config), p.Sealer, authorityConfig()); err != nil {
		return fmt.Errorf("open the identities of the bus: %w", err)
	}
	if p.config.NatsURL == "" {
		p.Hub, err = hub.Start(ctx, hub.Options{
			Authority: p.Authority, Dir: filepath.Join(p.config.DataDir, "nats"),
			Listen: p.config.NatsListen, LeafListen: p.config.NatsLeafListen, MaxStore: p.config.NatsMaxBytes, Log: p.log,
		})
		if err != nil {
			return err
		}
	}
	return p.applyStreams(ctx)
}

// Manifest is what the streams of an account shall be, scaled to the disk they may use.
func Manifest(account natsauth.Account, maxBytes int64) bus.Manifest {
	layouts := map[natsauth.Account]func() ([]jetstream.StreamConfig, []stream.Consumer){natsauth.CORE: stream.Core, natsauth.EDGE: stream.Edge}
	var all int64
	for _, f := range layouts {
		streams, _ := f()
		for _, s := range streams {
			all += s.MaxBytes
		}
	}
	streams, consumers := layouts[account]()
	m := bus.Manifest{Rev: stream.Revision, Streams: streams}
	for _, c := range consumers {
		m.Consumers = append(m.Consumers, bus.ConsumerSpec{Stream: c.Stream, Config: c.Config})
	}
	// A tenth is left for what the streams need beside their messages.
	return m.Scaled(min(1, 0.9*float64(maxBytes)/float64(all)))
}

// applyStreams makes the streams what they should be.
func (p *Platform) applyStreams(ctx context.Context) error {
	for _, account := range []natsauth.Account{natsauth.CORE, natsauth.EDGE} {
		conn, err := p.Connect(ctx, account, UserManifest, nil)
		if err != nil {
			return err
		}
		changes, err := Manifest(account, p.config.NatsMaxBytes).Apply(ctx, conn.JS)
		if err := errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
			return fmt.Errorf("apply the streams of %s: %w", account, err)
		}
		for _, c := range changes {
			p.log.Info("stream changed", "account", account, "action", c.Action, "object", c.Object)
			p.noteMade(c)
		}
	}
	return nil
}

func (p *Platform) noteMade(c bus.Change) {
	if name, ok := strings.CutPrefix(c.Object, "stream "); ok && c.Action == "create" {
		p.made = append(p.made, name)
	}
}

// refill has everything published again to streams that had to be made anew: the bus
// lost its disk, or is another one, and Postgres is the truth.
func (p *Platform) refill(ctx context.Context) error {
	if len(p.made) == 0 {
		return nil
	}
	n, err := p.Database.Replay(ctx, p.made, time.Time{})
	if err == nil && n > 0 {
		p.log.Warn("streams were lost; what was published is published again", obs.KeyCount, n)
	}
	return err
}

// Connect connects a user, and returns when the server has answered. The connection's metrics go to a registry, or
// nowhere if that is nil.
func (p *Platform) Connect(ctx context.Context, account natsauth.Account, name string, metrics prometheus.Registerer) (*bus.Conn, error) {
	o := bus.Options{URL: p.config.NatsURL, Metrics: metrics}
	if p.Hub != nil {
		o.Server = nats.InProcessConnProvider(p.Hub)
	}
	return connect(ctx, p.Authority, account, name, o, p.log)
}

func connect(ctx context.Context, a *natsauth.Authority, account natsauth.Account, name string, o bus.Options, log *slog.Logger) (*bus.Conn, error) {
	credentials, err := Credentials(a, account, name)
	if err != nil {
		return nil, err
	}
	o.Name, o.JWT, o.Seed = name, credentials.JWT, credentials.Seed
	o.InboxPrefix, o.Log = subject.Inbox(name), log.With(obs.KeyService, name)
	conn, err := bus.Connect(o)
	if err != nil {
		return nil, fmt.Errorf("connect %s to NATS: %w", name, err)
	}
	if err := conn.Ready(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect %s to NATS: %w", name, err), conn.Close(context.WithoutCancel(ctx)))
	}
	return conn, nil
}

// Credentials makes new credentials of a user, with the permissions that it has by its
// name.
func Credentials(a *natsauth.Authority, account natsauth.Account, name string) (natsauth.Credentials, error) {
	for _, u := range users() {
		if u.account == account && u.name == name {
			return a.ServiceUser(account, name, u.permissions)
		}
	}
	return natsauth.Credentials{}, fmt.Errorf("there is no user %s in account %s", name, account)
}

// Close ends the servers that Open started; NATS first, since Postgres is the truth.
func (p *Platform) Close(ctx context.Context) error {
	_ = os.Remove(runningFile(p.config))
	if p.Hub != nil {
		p.Hub.Stop()
	}
	if p.Database != nil {
		return p.Database.Close(ctx)
	}
	return nil
}
