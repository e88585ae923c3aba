// Package leaf is a site's side of the bus: agents connect to the NATS server inside
// it, and it alone connects to the hub, outward.
//
// It stores and forwards. Orders for the site's agents are carried from the hub into a
// stream of the site, and the agents' reports into the hub's, each acknowledged only
// when the other side has stored it; while the hub is away agents go on working on
// what was relayed, and what they report waits here. Kill the leaf at any instant:
// nothing that it acknowledged is lost. Its host's loss of power loses up to a second of
// it, and the hub has all of that done again: agents answer what they did from their
// journals.
//
// A leaf enrols once, over HTTPS, with a one-time token and a key that it makes itself.
// From then on it starts, and authenticates its agents, from what it has on disk, and
// renews its JWT daily over the link. It has no right at the hub but to its own site's
// subjects, and knows of agents no more than their ids.
package leaf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/leaf/internal/broker"
	"github.com/certctl/certctl/services/leaf/internal/heartbeat"
	"github.com/certctl/certctl/services/leaf/internal/identity"
	"github.com/certctl/certctl/services/leaf/internal/link"
	"github.com/certctl/certctl/services/leaf/internal/metric"
	"github.com/certctl/certctl/services/leaf/internal/proxy"
	"github.com/certctl/certctl/services/leaf/internal/relay"
	"github.com/certctl/certctl/services/leaf/internal/renewal"
	"github.com/certctl/certctl/services/leaf/internal/roster"
)

const setupTimeout = time.Minute

// Run runs a leaf until ctx ends, and returns when it has stopped. An error means that
// it cannot run as it is configured, or cannot enrol.
func Run(ctx context.Context, config Config) error {
	if err := config.Validate(); err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	log := config.Log
	if log == nil {
		var err error
		if log, err = obs.NewLogger(os.Stderr, config.LogLevel, config.LogFormat); err != nil {
			return fmt.Errorf("leaf: %w", err)
		}
	}
	log = log.With("site_id", config.SiteID)
	unlock, err := lock(config.DataDir)
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	defer unlock()
	store, err := identity.Open(config.DataDir, config.SiteID)
	if err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	if err := enrol(ctx, config, store, log); err != nil {
		return fmt.Errorf("leaf: %w", err)
	}
	err = serve(ctx, config, store, log)
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // told to end, perhaps while it was starting
	}
	return fmt.Errorf("leaf: %w", err)
}

// enrol exchanges the token for an identity, unless there is one already. A leaf whose
// JWT ran out while it was cut off enrols again when it is given a new token.
func enrol(ctx context.Context, config Config, store *identity.Store, log *slog.Logger) error {
	if config.Adopt != nil {
		return adopt(config.Adopt, store)
	}
	who := store.Current()
	if who.Enrolled() {
		claims, err := identity.ReadUser(who.LeafJWT)
		if err != nil {
			return err
		}
		if config.Token == "" || time.Now().Unix() < claims.Expires {
			return nil
		}
	}
	if config.Token == "" {
		return errors.New("this leaf has not enrolled: CERTCTL_LEAF_TOKEN is needed")
	}
	where, err := url.Parse(config.GatewayURL)
	if err != nil {
		return fmt.Errorf("CERTCTL_LEAF_GATEWAY_URL: %w", err)
	}
	client, err := gatewayClient(config.GatewayCAFile)
	if err != nil {
		return fmt.Errorf("CERTCTL_LEAF_GATEWAY_CA_FILE: %w", err)
	}
	defer client.CloseIdleConnections()
	gateway := identity.Gateway{URL: where, Client: client}
	policy := retry.Policy{Base: 200 * time.Millisecond, Cap: 30 * time.Second, Jitter: 0.3}
	return retry.Do(ctx, policy, func(ctx context.Context) error {
		err := gateway.Enrol(ctx, store, config.Token)
		if err != nil {
			log.Warn("enrol", "gateway", where.Host, "error", err)
			return err
		}
		log.Info("enrolled", "gateway", where.Host)
		return nil
	})
}

// adopt takes the identity that the leaf's own process gives it. An account JWT that the
// leaf has already and that is newer stays.
func adopt(grant func(publicKey string) (Grant, error), store *identity.Store) error {
	return store.Update(func(i *identity.Identity) error {
		key, err := i.PublicKey()
		if err != nil {
			return err
		}
		g, err := grant(key)
		if err != nil {
			return err
		}
		if i.AccountJWT == "" || i.AccountKey != g.AccountKey || fresher(g.OperatorJWT, i.AccountJWT, g.AccountJWT) {
			i.AccountJWT = g.AccountJWT
		}
		i.LeafJWT, i.RelayJWT, i.OperatorJWT, i.AccountKey, i.HubURLs = g.LeafJWT, g.RelayJWT, g.OperatorJWT, g.AccountKey, g.HubURLs
		return nil
	})
}

func fresher(operatorJWT, current, candidate string) bool {
	_, err := natsauth.Newer(operatorJWT, current, candidate)
	return err == nil
}

// PublicKey is the key of the leaf of a data folder, made if there is none yet.
func PublicKey(dataDir, siteID string) (string, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return "", err
	}
	store, err := identity.Open(dataDir, siteID)
	if err != nil {
		return "", err
	}
	return store.Current().PublicKey()
}

// serve runs the enrolled leaf; it is the leaf's diagram.
func serve(ctx context.Context, config Config, store *identity.Store, log *slog.Logger) error {
	brokerConfig, err := config.broker(store.Current().HubURLs, filepath.Join(config.DataDir, "jetstream"))
	if err != nil {
		return err
	}
	server, err := broker.Start(brokerConfig, store, log)
	if err != nil {
		return err
	}
	defer server.Shutdown()
	nc, err := server.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	local, hub, err := openStreams(ctx, nc, config, log)
	if err != nil {
		return err
	}

	registry := obs.NewProcessRegistry()
	metrics := metric.New(registry)
	toHub := link.New(server, probe(hub, config.SiteID), config.ProbeInterval, log)
	agents := roster.New(local, config.MaxAgents, log)
	if err := agents.Restore(ctx); err != nil {
		return err
	}
	beats := heartbeat.New(sendHeartbeats(nc, config.SiteID), log)
	carrier := &relay.Relay{
		Site: config.SiteID, Local: local, Hub: hub, Link: toHub,
		Expect: agents.Expect, ApplyAccount: server.ApplyAccount, Metrics: metrics, Log: log,
	}
	questions := &proxy.Proxy{
		Site: config.SiteID, NC: nc, Roster: agents, Heartbeats: beats, Metrics: metrics, Log: log,
	}
	renewer := &renewal.Renewer{NC: nc, Link: toHub, Store: store, ApplyAccount: server.ApplyAccount, Log: log}

	if err := questions.Listen(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return toHub.Run(ctx) })
	g.Go(func() error { return carrier.Run(ctx) })
	g.Go(func() error { return questions.Run(ctx) })
	g.Go(func() error { return beats.Run(ctx) })
	g.Go(func() error { return renewer.Run(ctx) })
	if config.StatusListen != "" {
		status := status{server: server, link: toHub, reports: reportsWaiting(local), registry: registry, log: log}
		g.Go(func() error { return status.serve(ctx, config.StatusListen) })
	}
	if config.Ready != nil {
		config.Ready(server.AgentURL())
	}
	log.Info("leaf is ready", "agents_at", server.AgentURL())
	return g.Wait()
}

// openStreams makes the site's streams as the manifest has them, at the sizes of the
// configuration.
func openStreams(ctx context.Context, nc *nats.Conn, config Config, log *slog.Logger) (local, hub jetstream.JetStream, err error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	if local, err = jetstream.New(nc); err != nil {
		return nil, nil, err
	}
	if hub, err = jetstream.NewWithDomain(nc, subject.DomainHub); err != nil {
		return nil, nil, err
	}
	streams, _ := stream.Leaf()
	for _, s := range streams {
		switch s.Name {
		case subject.StreamSiteCommands:
			s.MaxBytes, s.MaxConsumers = config.CommandBytes, config.MaxAgents+16
		case subject.StreamSiteReports:
			s.MaxBytes = config.ReportBytes
		}
		if err := openStream(ctx, local, s, log); err != nil {
			return nil, nil, fmt.Errorf("stream %s: %w", s.Name, err)
		}
	}
	return local, hub, nil
}

// openStream makes a stream as it shall be. One that forgets its messages otherwise, as
// that of the orders did once, cannot be changed to it and is made anew, empty: the hub
// sends each order that is not answered again, within a minute of its sending or of its
// agent's coming back. Sequences go on, so that an acknowledgement of before means no
// message of after.
func openStream(ctx context.Context, js jetstream.JetStream, s jetstream.StreamConfig, log *slog.Logger) error {
	old, err := js.Stream(ctx, s.Name)
	switch {
	case err == nil && old.CachedInfo().Config.Retention != s.Retention:
		state := old.CachedInfo().State
		log.Warn("a stream of an older release is made anew; the hub sends again what was not answered", "stream", s.Name, "messages", state.Msgs)
		if err := js.DeleteStream(ctx, s.Name); err != nil {
			return err
		}
		s.FirstSeq = state.LastSeq + 1
	case err != nil && !errors.Is(err, jetstream.ErrStreamNotFound):
		return err
	}
	_, err = js.CreateOrUpdateStream(ctx, s)
	return err
}

// probe asks the hub for the state of the site's durable.
func probe(hub jetstream.JetStream, siteID string) func(context.Context) error {
	spec := stream.Site(siteID)
	return func(ctx context.Context) error {
		_, err := hub.Consumer(ctx, spec.Stream, spec.Config.Durable)
		return err
	}
}

func sendHeartbeats(nc *nats.Conn, siteID string) func(context.Context, command.Heartbeats) error {
	to := subject.AgentRequest(siteID, subject.AgentSite, command.VerbHeartbeats)
	return func(ctx context.Context, beats command.Heartbeats) error {
		data, err := json.Marshal(beats)
		if err != nil {
			return err
		}
		msg, err := nc.RequestWithContext(ctx, to, data)
		if err != nil {
			return err
		}
		var reply command.Reply[json.RawMessage]
		if err := json.Unmarshal(msg.Data, &reply); err != nil {
			return fmt.Errorf("answer of the hub: %w", err)
		}
		if reply.Fault != nil {
			return fault.New(fault.Code(reply.Fault.Code), "%s", reply.Fault.Message)
		}
		return nil
	}
}
