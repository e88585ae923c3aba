package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

const (
	maxPayload   = 1 << 20
	maxMemory    = 16 << 20
	pingInterval = 20 * time.Second
	// firstInfo waits for the hub's greeting; the default of one second is too short
	// for satellite links.
	firstInfo   = 10 * time.Second
	dialTimeout = 10 * time.Second
	// syncInterval is how much a leaf whose host loses power may forget. Nothing else than
	// a loss of power, or of the system, loses what is written and not synced.
	syncInterval = time.Second
	// connectionsPerAgent leaves room for an agent that reconnects before its old
	// connection is noticed to be dead.
	connectionsPerAgent = 3
)

// Config is how the server runs.
type Config struct {
	Site string
	// Dir is where JetStream keeps its files.
	Dir string
	// Host and Port are where agents connect; port -1 takes a free one.
	Host string
	Port int
	// TLS serves agents; nil is plain.
	TLS *tls.Config
	// Hubs are the addresses of the hub, tried in turn.
	Hubs []*url.URL
	// HubTLS checks the hub's certificate; nil leaves it to the scheme and the system's
	// roots.
	HubTLS *tls.Config
	// MaxStore bounds JetStream's files in bytes.
	MaxStore int64
	// MaxAgents bounds connections.
	MaxAgents int
	// Reconnect is the wait between attempts to reach the hub; the server adds jitter.
	Reconnect time.Duration
}

func (b *Broker) options(c Config) (*server.Options, error) {
	who := b.store.Current()
	platform, err := jwt.DecodeOperatorClaims(who.OperatorJWT)
	if err != nil {
		return nil, fmt.Errorf("operator JWT: %w", err)
	}
	own, systemAccount, err := b.ownOperator()
	if err != nil {
		return nil, fmt.Errorf("own operator: %w", err)
	}
	if err := b.resolver.Store(who.AccountKey, who.AccountJWT); err != nil {
		return nil, fmt.Errorf("account JWT: %w", err)
	}
	o := &server.Options{
		ServerName: c.Site, Host: c.Host, Port: c.Port,
		NoSigs: true, NoSublistCache: true, MaxPayload: maxPayload,
		PingInterval: pingInterval, MaxConn: c.MaxAgents*connectionsPerAgent + 16,
		JetStream: true, JetStreamDomain: c.Site, StoreDir: filepath.Clean(c.Dir), SyncInterval: syncInterval,
		JetStreamMaxStore: c.MaxStore, JetStreamMaxMemory: maxMemory, DisableJetStreamBanner: true,
		TrustedOperators: []*jwt.OperatorClaims{platform, own},
		AccountResolver:  b.resolver, SystemAccount: systemAccount,
	}
	if c.TLS != nil {
		o.TLS, o.TLSVerify, o.TLSConfig, o.TLSTimeout = true, false, c.TLS, 5
	}
	o.LeafNode.ReconnectInterval = c.Reconnect
	o.LeafNode.Remotes = []*server.RemoteLeafOpts{b.remote(c, who.AccountKey)}
	return o, nil
}

func (b *Broker) remote(c Config, account string) *server.RemoteLeafOpts {
	r := &server.RemoteLeafOpts{
		LocalAccount: account, URLs: slices.Clone(c.Hubs),
		FirstInfoTimeout: firstInfo, DialTimeout: dialTimeout,
		// What other sites are interested in is none of this site's business.
		RequestIsolation: true,
		// Asked at each connection, so that a renewed JWT needs no restart.
		SignatureCB: func(nonce []byte) (string, []byte, error) {
			who := b.store.Current()
			signature, err := who.Sign(nonce)
			return who.LeafJWT, signature, err
		},
	}
	if len(c.Hubs) > 0 && (c.Hubs[0].Scheme == "tls" || c.Hubs[0].Scheme == "wss") {
		r.TLS, r.TLSConfig, r.TLSTimeout = true, c.HubTLS, 5
		if r.TLSConfig == nil {
			r.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	return r
}

// ownOperator makes the operator of the system account. Nothing that it signs is kept.
func (b *Broker) ownOperator() (*jwt.OperatorClaims, string, error) {
	operator, err := nkeys.CreateOperator()
	if err != nil {
		return nil, "", err
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		return nil, "", err
	}
	operatorKey, errO := operator.PublicKey()
	accountKey, errA := account.PublicKey()
	if err := errors.Join(errO, errA); err != nil {
		return nil, "", err
	}
	token, err := jwt.NewOperatorClaims(operatorKey).Encode(operator)
	if err != nil {
		return nil, "", err
	}
	claims, err := jwt.DecodeOperatorClaims(token)
	if err != nil {
		return nil, "", err
	}
	system := jwt.NewAccountClaims(accountKey)
	system.Name = "leaf system"
	if token, err = system.Encode(operator); err != nil {
		return nil, "", err
	}
	return claims, accountKey, b.resolver.Store(accountKey, token)
}
