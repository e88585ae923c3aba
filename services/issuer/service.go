// Package issuer owns certificates, from request to expiry: it takes requests, keeps the record, runs the jobs of
// issuance and renewal, and holds the keys of the Local CA, which never leave its process, or asks a signer for those that
// are in a PKCS#11 token.
//
// Its tables are the truth about certificates and their versions. What happens is told in events, written in the
// transaction that made it true. What it needs to know of targets it keeps as a copy fed by deployment's events.
// Any number of replicas may run: jobs are leased, and signing is repeatable, for a job makes one version.
package issuer

import (
	"context"

	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/issuer/internal/app"
)

// Run answers requests, works on jobs and follows events until ctx ends, then finishes what is in hand.
func Run(ctx context.Context, cfg Config, deps service.Deps) error {
	return app.Run(ctx, cfg.settings(), deps)
}

func (c *Config) settings() app.Settings {
	return app.Settings{
		PublicURL:   c.PublicURL,
		CACertPath:  c.CACertPath,
		CAKeyPath:   c.CAKeyPath,
		Signer:      c.SignerSocket,
		StepCA:      c.stepCA(),
		OpenSSL:     c.openSSL(),
		DigiCert:    c.digiCert(),
		Sweep:       c.SchedulerJobProcessorInterval,
		CSRDeadline: c.CSRDeadline,
		ACME:        c.acme(),

		CAKeyPassword: c.CAKeyPassword,

		RenewalSweep: c.SchedulerRenewalCheckInterval,
		MaxRenewals:  c.RenewalsPerIssuer,
		ServerKeys:   c.KeygenMode == keygenServer,
	}
}
