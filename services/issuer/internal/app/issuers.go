package app

import (
	"context"
	"time"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/digicert"
	"github.com/certctl/certctl/services/issuer/internal/ca/local"
	"github.com/certctl/certctl/services/issuer/internal/ca/script"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca"
	"github.com/certctl/certctl/services/issuer/internal/ca/vault"
	"github.com/certctl/certctl/services/issuer/internal/deployment"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/worker"
)

// expiryWarning is how long before the end of a CA's certificate its operators are told at each start.
const expiryWarning = 180 * 24 * time.Hour

// kinds are the types of issuers that this build has a connector for.
func kinds(store *postgres.Store, settings Settings, deps service.Deps) map[string]registry.Kind {
	return map[string]registry.Kind{
		registry.TypeLocal: &local.Kind{
			Keys: store, Sealer: deps.Sealer, PublicURL: settings.PublicURL, Clock: deps.Clock,
			Token: settings.token, Default: issuance.DefaultIssuer,
			Files: local.Files{CertPath: settings.CACertPath, KeyPath: settings.CAKeyPath, Password: settings.CAKeyPassword},
		},
		registry.TypeACME: &acme.Kind{
			Deps: acme.Deps{Accounts: store, Sealer: deps.Sealer, Clock: deps.Clock},
			HTTP: &acme.Listener{Address: settings.ACME.HTTPAddress}, Hosts: &acme.Hosts{Agents: deployment.NewAgents(deps.Bus.NC)},
			DNS: &settings.ACME.DNS,
		},
		registry.TypeDigiCert: &digicert.Kind{Clock: deps.Clock},
		registry.TypeStepCA:   &stepca.Kind{Clock: deps.Clock},
		registry.TypeVault:    &vault.Kind{Clock: deps.Clock},
		registry.TypeOpenSSL:  &script.Kind{Dir: settings.OpenSSL.ScriptDir, Trusted: settings.OpenSSL.trusted(), Clock: deps.Clock},
	}
}

// openDefault opens the CA of the default issuer, which is part of how the service is installed: a fault of its CA is
// one of the service.
func openDefault(ctx context.Context, issuers *registry.Registry, store *postgres.Store, deps service.Deps) error {
	i, err := store.IssuerByID(ctx, authn.Scope{}, issuance.DefaultIssuer)
	if err != nil || !i.Enabled {
		return err
	}
	return announce(ctx, issuers, deps, i)
}

// openOthers opens the CA of every other issuer that is enabled and tells of those that are new or have changed. One that
// has a fault stays out of service until that is mended; one that hangs holds nobody up.
func openOthers(ctx context.Context, issuers *registry.Registry, store *postgres.Store, deps service.Deps) error {
	at := postgres.Page{Number: 1, Size: page.MaxSize}
	for {
		list, err := store.Issuers(ctx, authn.Scope{}, at)
		if err != nil {
			return unlessStopped(ctx, err)
		}
		for _, i := range list.Rows {
			if !i.Enabled || i.ID == issuance.DefaultIssuer {
				continue
			}
			if err := announce(ctx, issuers, deps, i); unlessStopped(ctx, err) != nil {
				deps.Log.ErrorContext(ctx, "issuer stays out of service", obs.KeyIssuer, i.ID, obs.KeyError, err)
			}
		}
		if list.Next == nil || ctx.Err() != nil {
			return nil
		}
		at.Cursor = list.Next
	}
}

// watchEnds warns of the end of CAs that live here.
func watchEnds(store *postgres.Store, settings Settings, deps service.Deps) func(context.Context) error {
	watch := registry.NewWatch(store, deps.Clock, deps.Log)
	return worker.New(watch, watch, deps.Clock, deps.Log, settings.RenewalSweep).Run
}

func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func announce(ctx context.Context, issuers *registry.Registry, deps service.Deps, i registry.Issuer) error {
	authority, err := issuers.Introduce(ctx, i)
	if err != nil {
		return err
	}
	if chain := authority.Chain(); len(chain) > 0 {
		if ends := chain[0].NotAfter; ends.Before(deps.Clock.Now().Add(expiryWarning)) {
			deps.Log.WarnContext(ctx, "the CA's own certificate expires soon, and no certificate outlives it", obs.KeyIssuer, i.ID, "not_after", ends)
		}
	}
	return nil
}
