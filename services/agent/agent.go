// Package agent is certctl-agent: it runs on the hosts that serve TLS, makes their
// private keys, and installs their certificates.
//
// An agent talks to its site's leaf and to nothing else, and only ever outward. It
// takes signed orders from there: to make a key and a certificate request, to install
// a certificate and prove that it is served. Keys never leave the host. Whatever is
// cut off, by a lost link or a lost machine, is taken up again: an order has its
// effect once, and its report is delivered in the end.
//
// What the platform may make this host do is decided on the host: see the rules of
// package process and of each target.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/services/agent/internal/host"
	"github.com/certctl/certctl/services/agent/internal/http01"
	"github.com/certctl/certctl/services/agent/internal/identity"
	"github.com/certctl/certctl/services/agent/internal/install"
	"github.com/certctl/certctl/services/agent/internal/journal"
	"github.com/certctl/certctl/services/agent/internal/keystore"
	"github.com/certctl/certctl/services/agent/internal/link"
	"github.com/certctl/certctl/services/agent/internal/process"
	"github.com/certctl/certctl/services/agent/internal/spool"
	"github.com/certctl/certctl/services/agent/internal/statedir"
	"github.com/certctl/certctl/services/agent/internal/target"
	"github.com/certctl/certctl/services/agent/internal/target/nginx"
	"github.com/certctl/certctl/services/agent/internal/work"
)

// spoolLimit is how many reports may wait on disk. A report is a few KiB.
const spoolLimit = 10_000

// Run is the agent: it enrols the host if that is still to be done, and works until
// ctx ends and the order that was begun is finished. It fails if its folders cannot be
// used, or if the enrolment is refused; a leaf that cannot be reached it waits for.
func Run(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	dir, err := statedir.Open(cfg.AgentStateDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	me, err := identity.Open(cfg.AgentStateDir)
	if err != nil {
		return err
	}
	if err := enrol(ctx, cfg, me, log); err != nil {
		return err
	}
	log = log.With("agent_id", me.Current().AgentID, "site_id", me.Current().SiteID)
	l, worker, err := assemble(cfg, me, log)
	if err != nil {
		return err
	}
	answers := &http01.Responder{Address: cfg.AgentHttp01Address, Webroot: cfg.AgentHttp01Webroot, Log: log}
	worker.Responder = answers
	defer func() { err = errors.Join(err, answers.Close()) }()
	log.InfoContext(ctx, "agent started", "version", host.Version())
	if err := l.Open(ctx); err != nil {
		return err
	}
	if err := worker.Recover(ctx); err != nil {
		log.ErrorContext(ctx, "recovery incomplete", "error", err)
	}
	var tidying sync.WaitGroup
	tidying.Go(func() { tidy(ctx, worker, log) })
	l.Run(ctx)
	tidying.Wait()
	log.InfoContext(ctx, "agent stopped")
	return nil
}

// tidy drops, now and daily, what the agent need not remember any more.
func tidy(ctx context.Context, worker *work.Worker, log *slog.Logger) {
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	for {
		if err := worker.Forget(); err != nil {
			log.WarnContext(ctx, "old orders not forgotten", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-daily.C:
		}
	}
}

// enrol gets the host an identity, if it has none that is still of use.
func enrol(ctx context.Context, cfg Config, me *identity.Store, log *slog.Logger) error {
	if me.Current().Enrolled(time.Now()) {
		return nil
	}
	if cfg.EnrolmentToken == "" {
		if me.Current().AgentID != "" {
			return errors.New("this agent was away for too long and its identity has expired: enrol it again with a new token (CERTCTL_ENROLMENT_TOKEN)")
		}
		return errors.New("this host is not enrolled yet: give it an enrolment token (CERTCTL_ENROLMENT_TOKEN or CERTCTL_ENROLMENT_TOKEN_FILE)")
	}
	reply, err := link.Enrol(ctx, link.Enrolment{
		Leaf: cfg.leaf(), Token: cfg.EnrolmentToken, PublicKey: me.PublicKey(), Describe: cfg.describe, Log: log,
	})
	if err != nil {
		return err
	}
	if err := me.Adopt(reply); err != nil {
		return err
	}
	log.InfoContext(ctx, "host enrolled", "agent_id", reply.AgentID, "site_id", reply.SiteID)
	return nil
}

func assemble(cfg Config, me *identity.Store, log *slog.Logger) (*link.Link, *work.Worker, error) {
	keys, err := keystore.Open(cfg.KeyDir)
	if err != nil {
		return nil, nil, err
	}
	done, err := journal.Open(filepath.Join(cfg.AgentStateDir, "journal"))
	if err != nil {
		return nil, nil, err
	}
	waiting, err := spool.Open(filepath.Join(cfg.AgentStateDir, "spool"), spoolLimit)
	if err != nil {
		return nil, nil, err
	}
	installer := install.Installer{Places: install.Places{
		Roots: cfg.AgentAllowedPaths, Private: []string{cfg.AgentStateDir, cfg.KeyDir},
	}}
	worker := &work.Worker{
		Identity: me, Journal: done, Keys: keys,
		Targets: map[string]target.Kind{
			"NGINX": nginx.Kind{Installer: installer, Commands: process.Policy{Allowed: cfg.AgentAllowedCommands}},
		},
		Clock: clock.System, Log: log,
	}
	l := &link.Link{
		Leaf: cfg.leaf(), Identity: me, Spool: waiting, Handler: worker,
		Describe: cfg.describe, Heartbeat: cfg.AgentHeartbeatInterval, Log: log,
	}
	worker.Reporter = l
	return l, worker, nil
}

func (c *Config) leaf() link.Address { return link.Address{URL: c.LeafURL, CAFile: c.LeafCAFile} }

func (c *Config) describe(local string) command.Heartbeat { return host.Describe(c.AgentName, local) }
