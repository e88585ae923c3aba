// Package broker runs the NATS server inside the leaf: the one that agents connect
// to, with a JetStream domain of its own and one leaf-node connection to the hub.
//
// It is in operator mode. It trusts the platform's operator, whose account JWT it
// holds itself, so agents are authenticated while the hub is away; and an operator of
// its own, made anew at each start, for nothing but its system account, because a
// server needs one and the platform's must not reach a customer's host.
//
// What JetStream acknowledges is written, so that a killed leaf loses nothing that an
// agent or the hub was told is safe. It is synced every second: when the host loses
// power, orders and reports of up to a second are lost, and the hub asks for them again
// (docs/adr/0011-leaf-syncs-each-second.md).
package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/natsembed"
	"github.com/certctl/certctl/services/leaf/internal/identity"
)

const startTimeout = 30 * time.Second

// Broker is the running server. It is safe for concurrent use.
type Broker struct {
	server   *server.Server
	resolver *server.MemAccResolver
	store    *identity.Store
	log      *slog.Logger

	updating sync.Mutex // held while an account JWT is applied
}

// Start starts the server with an enrolled identity. It does not wait for the hub.
func Start(config Config, store *identity.Store, log *slog.Logger) (*Broker, error) {
	b := &Broker{store: store, log: log, resolver: &server.MemAccResolver{}}
	options, err := b.options(config)
	if err != nil {
		return nil, fmt.Errorf("leaf server: %w", err)
	}
	if err := natsembed.LoadAtStart(options.StoreDir, store.Current().AccountKey); err != nil {
		return nil, fmt.Errorf("leaf server: %w", err)
	}
	if b.server, err = server.NewServer(options); err != nil {
		return nil, fmt.Errorf("leaf server: %w", err)
	}
	b.server.SetLoggerV2(natsembed.NewLogger(log, config.Site), false, false, false)
	b.server.Start()
	if !b.server.ReadyForConnections(startTimeout) || !b.server.JetStreamEnabled() {
		b.Shutdown()
		return nil, errors.New("leaf server: it did not start; the log says why")
	}
	return b, nil
}

// Shutdown stops the server and returns when it has stopped.
func (b *Broker) Shutdown() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// Connect is the leaf's own connection to its server, in process. It comes back by
// itself and is the caller's to close.
func (b *Broker) Connect() (*nats.Conn, error) {
	site := b.store.Current().SiteID
	nc, err := nats.Connect("", nats.InProcessServer(b.server), nats.Name("relay of "+site),
		nats.UserJWT(func() (string, error) { return b.store.Current().RelayJWT, nil },
			func(nonce []byte) ([]byte, error) { return b.store.Current().Sign(nonce) }),
		nats.CustomInboxPrefix(subject.Inbox(site)),
		nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("connection to the leaf's own server", "error", err)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to the leaf's own server: %w", err)
	}
	return nc, nil
}

// AgentURL is where agents connect.
func (b *Broker) AgentURL() string { return b.server.ClientURL() }

// Agents is how many clients are connected, the leaf's own connection left out.
func (b *Broker) Agents() int { return max(b.server.NumClients()-1, 0) }

// Health tells whether the server can take and keep messages. A disk that failed
// shows here.
func (b *Broker) Health() error {
	if status := b.server.Healthz(&server.HealthzOptions{JSServerOnly: true}); status.Error != "" {
		return errors.New(status.Error)
	}
	return nil
}

// Link implements link.Server.
func (b *Broker) Link() (id uint64, ok bool) {
	if b.server.NumLeafNodes() == 0 {
		return 0, false
	}
	links, err := b.server.Leafz(nil)
	if err != nil || len(links.Leafs) == 0 {
		return 0, false
	}
	return links.Leafs[0].ID, true
}

// CutLink implements link.Server.
func (b *Broker) CutLink() {
	if id, ok := b.Link(); ok {
		// An error says that the connection has gone, which is what was wanted.
		_ = b.server.DisconnectClientByID(id)
	}
}

// ApplyAccount takes a newer JWT of the account: it is checked, stored and obeyed
// before ApplyAccount returns, and users that it revokes are disconnected. It may come
// from anywhere, since only the operator can have signed it. One that is not newer is
// natsauth.ErrStale.
func (b *Broker) ApplyAccount(token string) error {
	b.updating.Lock()
	defer b.updating.Unlock()
	var claims *jwt.AccountClaims
	err := b.store.Update(func(i *identity.Identity) (err error) {
		if claims, err = natsauth.Newer(i.OperatorJWT, i.AccountJWT, token); err != nil {
			return err
		}
		i.AccountJWT = token
		return nil
	})
	if err != nil {
		return err
	}
	if err := b.resolver.Store(claims.Subject, token); err != nil {
		return fmt.Errorf("apply account JWT: %w", err)
	}
	account, err := b.server.LookupAccount(claims.Subject)
	if err != nil {
		return fmt.Errorf("apply account JWT: %w", err)
	}
	b.server.UpdateAccountClaims(account, claims)
	b.log.Info("account JWT applied", "revoked", len(claims.Revocations))
	return nil
}
