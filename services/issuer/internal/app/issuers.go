package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// typeLocal is the type of the Local CA, as the API spells it.
const typeLocal = "GenericCA"

// expiryWarning is how long before the end of a CA's certificate its operators are told at each start.
const expiryWarning = 180 * 24 * time.Hour

// registry is the CAs in service, by the ids of their issuers. It does not change once it is open.
type registry map[string]ca.Issuer

// Issuer implements [issuance.Issuers].
func (r registry) Issuer(id string) (ca.Issuer, bool) {
	i, ok := r[id]
	return i, ok
}

// open opens the connector of every issuer that is enabled and tells of those that are new or have changed.
func (r registry) open(ctx context.Context, store *postgres.Store, settings Settings, deps service.Deps) error {
	list, err := store.Issuers(ctx, authn.Scope{}, postgres.Page{Number: 1, Size: page.MaxSize})
	if err != nil {
		return err
	}
	for _, i := range list.Rows {
		if !i.Enabled {
			continue
		}
		if i.Type != typeLocal || i.ID != issuance.DefaultIssuer {
			deps.Log.Warn("issuer is of a type that this build does not know, and stays out of service", obs.KeyIssuer, i.ID, "type", i.Type)
			continue
		}
		authority, config, err := openLocal(ctx, i.ID, store, settings, deps)
		if err != nil {
			return err
		}
		r[i.ID] = authority
		own := authority.Chain()[0]
		if own.NotAfter.Before(deps.Clock.Now().Add(expiryWarning)) {
			deps.Log.Warn("the CA's own certificate expires soon, and no certificate outlives it", obs.KeyIssuer, i.ID, "not_after", own.NotAfter)
		}
		i.Config, i.CAChainPEM, i.SignsCRL = config, string(x509x.EncodeCertificates(authority.Chain()...)), authority.SignsCRLs()
		if err := store.Announce(ctx, i, deps.Clock.Now()); err != nil {
			return err
		}
	}
	return nil
}

func openLocal(ctx context.Context, id string, store *postgres.Store, settings Settings, deps service.Deps) (*local.Authority, map[string]any, error) {
	places := local.PlacesAt(settings.PublicURL, id)
	if settings.CACertPath != "" {
		a, err := local.OpenFiles(settings.CACertPath, settings.CAKeyPath, places, deps.Clock)
		return a, map[string]any{"mode": "sub-ca", "ca_cert_path": settings.CACertPath}, err
	}
	if deps.Sealer == nil {
		return nil, nil, errors.New("the Local CA needs a sealing key for its own; set CERTCTL_SEALING_KEY_FILE")
	}
	a, err := local.OpenRoot(ctx, id, store, deps.Sealer, places, deps.Clock)
	if err != nil {
		return nil, nil, fmt.Errorf("open the Local CA: %w", err)
	}
	return a, map[string]any{"mode": "self-signed"}, nil
}
