package up

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/natsauth"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/deployment"
	"github.com/certctl/certctl/services/leaf"
)

// localSite is the site that every installation has.
const localSite = "site-local"

// LeafConfig is read from CERTCTL_*. A leaf that runs apart has settings of its own.
type LeafConfig struct {
	LocalLeafListen string `split_words:"true" default:"127.0.0.1:4223" desc:"Loopback address on which the leaf of this host takes agents. Port 0 takes a free one."`
}

func (in *installation) leafDir() string { return in.cfg.leafDir() }

func (c *Config) leafDir() string { return filepath.Join(c.Platform.DataDir, "leaf") }

// LocalLeafKey is the public key of the leaf of this host, by which the deployment
// service knows it.
func (c *Config) LocalLeafKey() (string, error) { return leaf.PublicKey(c.leafDir(), localSite) }

// hubURLs is where leaves reach the hub.
func (in *installation) hubURLs() []string {
	if in.platform.Hub != nil {
		return []string{in.platform.Hub.LeafURL()}
	}
	return in.cfg.Deployment.DeploymentHubAddresses
}

// deployment runs the deployment service, which has a side in account EDGE as well.
func (in *installation) deployment(ctx context.Context, cfg deployment.Config) error {
	if !in.here("deployment") {
		return nil
	}
	deps, done, err := in.deps(ctx, "deployment")
	if err != nil {
		return err
	}
	defer done()
	edge, err := in.platform.Connect(ctx, natsauth.EDGE, "deployment", deps.Metrics)
	if err != nil {
		return err
	}
	defer edge.NC.Close()
	signer, err := in.signer()
	if err != nil {
		return err
	}
	account, err := in.platform.Authority.AccountJWT(natsauth.EDGE)
	if err != nil {
		return err
	}
	key, err := in.cfg.LocalLeafKey()
	if err != nil {
		return err
	}
	cfg.Edge = deployment.Edge{Bus: edge, Signer: signer, AccountJWT: account, HubURLs: in.hubURLs(), LocalLeafKey: key}
	if err := deployment.Run(ctx, cfg, deps); err != nil {
		return fmt.Errorf("deployment: %w", err)
	}
	return nil
}

func (in *installation) signer() (*natsauth.EdgeSigner, error) {
	keys, err := in.platform.Authority.EdgeKeys()
	if err != nil {
		return nil, err
	}
	return natsauth.NewEdgeSigner(keys)
}

// leaf runs the leaf of this host. This process holds the signing keys, so it gives the
// leaf its identity itself.
func (in *installation) leaf(ctx context.Context, ready func(url string)) error {
	return leaf.Run(ctx, leaf.Config{
		SiteID: localSite, DataDir: in.leafDir(), Listen: in.cfg.Leaf.LocalLeafListen,
		Adopt: in.adoptLeaf, Ready: ready, Log: in.log.With(obs.KeyService, "leaf"),
	})
}

func (in *installation) adoptLeaf(publicKey string) (leaf.Grant, error) {
	signer, err := in.signer()
	if err != nil {
		return leaf.Grant{}, err
	}
	g := leaf.Grant{OperatorJWT: signer.OperatorJWT(), AccountKey: signer.AccountKey(), HubURLs: in.hubURLs()}
	if g.AccountJWT, err = in.platform.Authority.AccountJWT(natsauth.EDGE); err != nil {
		return leaf.Grant{}, err
	}
	if g.LeafJWT, err = signer.Leaf(localSite, publicKey); err != nil {
		return leaf.Grant{}, err
	}
	g.RelayJWT, err = signer.Relay(localSite, publicKey)
	return g, err
}

// handoff is a handler that is there once its service has started.
type handoff struct {
	handler atomic.Pointer[http.Handler]
}

func (h *handoff) set(handler http.Handler) { h.handler.Store(&handler) }

// ServeHTTP implements [http.Handler].
func (h *handoff) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handler := h.handler.Load()
	if handler == nil {
		httpx.WriteProblem(w, r, fault.New(fault.Unavailable, "the revocation service is starting"))
		return
	}
	(*handler).ServeHTTP(w, r)
}
