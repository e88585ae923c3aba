// Package hub is the NATS server inside certctl: the same operator mode, accounts and
// permissions as a cluster of its own would have, in one process.
//
// A message is written before it is acknowledged, and synced to disk within a second.
// What a power cut takes is published again from where it came (docs/adr/0013-hub-syncs-each-second.md).
// Services connect without a network; leaves, and services that run apart, connect to loopback ports unless the
// installation says otherwise.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/natsembed"
)

const (
	startWithin = 20 * time.Second
	maxPayload  = 1 << 20
	// maxControlLine holds the credential of a user that may publish many exact subjects: the server's default of 4 KiB
	// leaves a service little room to grow.
	maxControlLine = 64 << 10
	maxMemory      = 64 << 20
	// syncInterval is what relays of outboxes count on: see package bus.
	syncInterval = time.Second
	// resolverLimit is far above the four accounts that there are.
	resolverLimit = 64
)

// Options say what the server serves.
type Options struct {
	Authority *natsauth.Authority
	// Dir is where streams and account JWTs are kept.
	Dir string
	// Listen is where services that run apart connect; empty serves none.
	Listen string
	// LeafListen is where leaves connect. Port 0 takes a free one.
	LeafListen string
	// MaxStore bounds the streams' files, in bytes.
	MaxStore int64
	Log      *slog.Logger
}

// Hub is a running server.
type Hub struct {
	server *server.Server
	// options are the server's, which fills in the ports that were free.
	options *server.Options
}

// Start starts the server and returns when it takes connections.
func Start(ctx context.Context, o Options) (*Hub, error) {
	opts, err := options(o)
	if err != nil {
		return nil, err
	}
	if err := loadAtStart(o.Authority, opts.StoreDir); err != nil {
		return nil, err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("make the NATS server: %w", err)
	}
	s.SetLoggerV2(natsembed.NewLogger(o.Log, "hub"), false, false, false)
	s.Start()
	h := &Hub{server: s, options: opts}
	if !s.ReadyForConnections(startWithin) {
		h.Stop()
		return nil, fmt.Errorf("the NATS server did not start within %s", startWithin)
	}
	if err := h.Health(ctx); err != nil {
		h.Stop()
		return nil, err
	}
	return h, nil
}

func options(o Options) (*server.Options, error) {
	operator, err := jwt.DecodeOperatorClaims(o.Authority.OperatorJWT())
	if err != nil {
		return nil, fmt.Errorf("read the operator's JWT: %w", err)
	}
	resolver, system, err := accounts(o)
	if err != nil {
		return nil, err
	}
	opts := &server.Options{
		ServerName: "certctl-hub", NoSigs: true, MaxPayload: maxPayload, MaxControlLine: maxControlLine,
		JetStream: true, JetStreamDomain: subject.DomainHub, StoreDir: filepath.Join(o.Dir, "streams"), SyncInterval: syncInterval,
		JetStreamMaxStore: o.MaxStore, JetStreamMaxMemory: maxMemory, DisableJetStreamBanner: true,
		TrustedOperators: []*jwt.OperatorClaims{operator}, AccountResolver: resolver, SystemAccount: system,
	}
	if o.Listen == "" {
		opts.DontListen = true
	} else if opts.Host, opts.Port, err = hostPort(o.Listen); err != nil {
		return nil, err
	}
	if opts.LeafNode.Host, opts.LeafNode.Port, err = hostPort(o.LeafListen); err != nil {
		return nil, err
	}
	// What one site asks for is not told to another.
	opts.LeafNode.IsolateLeafnodeInterest = true
	return opts, nil
}

// accounts stores the newest account JWTs where the server looks for them. It takes
// updates over SYS from then on.
func accounts(o Options) (server.AccountResolver, string, error) {
	resolver, err := server.NewDirAccResolver(filepath.Join(o.Dir, "accounts"), resolverLimit, 0, server.NoDelete)
	if err != nil {
		return nil, "", fmt.Errorf("open the account resolver: %w", err)
	}
	for _, name := range natsauth.Accounts() {
		key, err := o.Authority.AccountKey(name)
		if err != nil {
			return nil, "", err
		}
		token, err := o.Authority.AccountJWT(name)
		if err != nil {
			return nil, "", err
		}
		if err := resolver.Store(key, token); err != nil {
			return nil, "", fmt.Errorf("store the JWT of account %s: %w", name, err)
		}
	}
	system, err := o.Authority.AccountKey(natsauth.SYS)
	return resolver, system, err
}

// loadAtStart has the server load every account before it lets anybody in.
func loadAtStart(authority *natsauth.Authority, storeDir string) error {
	var keys []string
	for _, name := range []natsauth.Account{natsauth.CORE, natsauth.EDGE, natsauth.EXT} {
		key, err := authority.AccountKey(name)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	return natsembed.LoadAtStart(storeDir, keys...)
}

func hostPort(address string) (string, int, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("NATS address %q: %w", address, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", 0, fmt.Errorf("NATS address %q: the server inside certctl listens on loopback only; run a NATS cluster with TLS and set CERTCTL_NATS_URL", address)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return "", 0, fmt.Errorf("NATS address %q: %w", address, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// InProcessConn implements [nats.InProcessConnProvider].
func (h *Hub) InProcessConn() (net.Conn, error) { return h.server.InProcessConn() }

// URL is where services that run apart connect; empty if they cannot.
func (h *Hub) URL() string {
	if a, ok := h.server.Addr().(*net.TCPAddr); ok {
		return "nats://" + a.String()
	}
	return ""
}

// LeafURL is where leaves connect.
func (h *Hub) LeafURL() string {
	return "nats://" + net.JoinHostPort(h.options.LeafNode.Host, strconv.Itoa(h.options.LeafNode.Port))
}

// Health asks the server whether it and its streams are well.
func (h *Hub) Health(context.Context) error {
	status := h.server.Healthz(&server.HealthzOptions{JSServerOnly: true})
	if status.StatusCode == 0 || status.StatusCode == 200 {
		return nil
	}
	return errors.New("the NATS server is not well: " + status.Error)
}

// Stop ends the server, when what it acknowledged is on disk.
func (h *Hub) Stop() {
	h.server.Shutdown()
	h.server.WaitForShutdown()
}
