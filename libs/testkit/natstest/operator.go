package natstest

import (
	"fmt"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/natsembed"
	"github.com/certctl/certctl/libs/secret"
)

const reconnectWait = 20 * time.Millisecond

// Hub is a server in operator mode, as the platform's hub is: the accounts of an authority, JetStream domain "hub", a
// port for clients and one for leaves. It keeps its ports, identities and streams over a restart.
type Hub struct {
	*Server

	Authority *natsauth.Authority

	t        testing.TB
	dir      string
	leafPort int
	options  *server.Options // of the server that runs, which fills in the ports
}

// Operator starts a hub that ends with the test. The roles are those that agents and leaves get.
func Operator(t testing.TB, roles natsauth.Roles, options ...Option) *Hub {
	t.Helper()
	h := &Hub{t: t, dir: t.TempDir(), leafPort: server.RANDOM_PORT}
	authority, err := natsauth.Create(filepath.Join(h.dir, "authority"), secret.New(secret.NewKey()), natsauth.Config{
		Roles: roles,
		Limits: map[natsauth.Account]natsauth.Limits{
			natsauth.CORE: {DiskBytes: -1}, natsauth.EDGE: {DiskBytes: -1}, natsauth.EXT: {DiskBytes: -1},
		},
	})
	if err != nil {
		t.Fatalf("create authority: %v", err)
	}
	h.Authority = authority
	h.Server = Start(t, append([]Option{Listen, h.operatorMode}, options...)...)
	return h
}

func (h *Hub) operatorMode(o *server.Options) {
	operator, err := jwt.DecodeOperatorClaims(h.Authority.OperatorJWT())
	if err != nil {
		h.t.Fatalf("operator of test hub: %v", err)
	}
	resolver, err := server.NewDirAccResolver(filepath.Join(h.dir, "accounts"), 100, 0, server.NoDelete)
	if err != nil {
		h.t.Fatalf("resolver of test hub: %v", err)
	}
	for _, name := range natsauth.Accounts() {
		key, err := h.Authority.AccountKey(name)
		if err != nil {
			h.t.Fatalf("account of test hub: %v", err)
		}
		token, err := h.Authority.AccountJWT(name)
		if err != nil {
			h.t.Fatalf("account of test hub: %v", err)
		}
		if err := resolver.Store(key, token); err != nil {
			h.t.Fatalf("account of test hub: %v", err)
		}
		if name == natsauth.SYS {
			o.SystemAccount = key
		} else if err := natsembed.LoadAtStart(o.StoreDir, key); err != nil {
			h.t.Fatalf("account of test hub: %v", err)
		}
	}
	o.TrustedOperators = []*jwt.OperatorClaims{operator}
	o.AccountResolver = resolver
	if h.options != nil {
		h.leafPort = h.options.LeafNode.Port
	}
	o.LeafNode.Host, o.LeafNode.Port = "127.0.0.1", h.leafPort
	o.LeafNode.IsolateLeafnodeInterest = true
	h.options = o
}

// LeafURL is where leaves connect. It stays the same over a restart.
func (h *Hub) LeafURL() *url.URL {
	return &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", h.options.LeafNode.Port)}
}

// EdgeSigner makes users of account EDGE.
func (h *Hub) EdgeSigner() *natsauth.EdgeSigner {
	h.t.Helper()
	keys, err := h.Authority.EdgeKeys()
	if err != nil {
		h.t.Fatalf("edge keys: %v", err)
	}
	signer, err := natsauth.NewEdgeSigner(keys)
	if err != nil {
		h.t.Fatalf("edge signer: %v", err)
	}
	return signer
}

// User connects a service user in process. The connection comes back after a restart, and is closed when the test ends.
func (h *Hub) User(account natsauth.Account, name string, permissions natsauth.Permissions) *nats.Conn {
	h.t.Helper()
	creds, err := h.Authority.ServiceUser(account, name, permissions)
	if err != nil {
		h.t.Fatalf("make user %s: %v", name, err)
	}
	nc, err := nats.Connect("", nats.InProcessServer(h.Server), nats.UserJWTAndSeed(creds.JWT, creds.Seed),
		nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait),
		nats.CustomInboxPrefix("_INBOX_"+name))
	if err != nil {
		h.t.Fatalf("connect %s to test hub: %v", name, err)
	}
	h.t.Cleanup(nc.Close)
	return nc
}

// Everything is the permissions of a test that looks at what others do.
func Everything() natsauth.Permissions {
	return natsauth.Permissions{Publish: []string{">"}, Subscribe: []string{">"}}
}
