package app

import (
	"context"
	"time"

	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
	"github.com/certctl/certctl/services/issuer/internal/registry"
	"github.com/certctl/certctl/services/issuer/internal/worker"
)

const (
	// campaignLinger is how long campaigns wait after something has ended, so that they go on once after many ends.
	campaignLinger = 30 * time.Millisecond
	// campaignSweep is how soon a replica takes up campaigns that another has left behind.
	campaignSweep = 2 * time.Second
	// authoritySweep is how often versions are looked for of which it is not known which key signed them. A replica of an
	// older build may have issued them.
	authoritySweep = time.Hour
)

// newCampaigns returns the campaigns, and the worker that has them go on.
func newCampaigns(
	store *postgres.Store, certificates *issuance.Service, issuers *registry.Registry, deps service.Deps,
) (*campaign.Service, *worker.Worker) {
	var work *worker.Worker
	campaigns := campaign.New(store, certificates, issuers.Try, deps.Clock, deps.Log, func() { work.Wake() })
	work = worker.New(campaigns, postgres.CampaignLooks{Store: store}, deps.Clock, deps.Log, campaignSweep)
	work.Linger = campaignLinger
	return campaigns, work
}

// newAuthorities returns the worker that finds out which keys signed what was issued before that was noted.
func newAuthorities(store *postgres.Store, deps service.Deps) *worker.Worker {
	return worker.New(postgres.Authorities{Store: store}, never{}, deps.Clock, deps.Log, authoritySweep)
}

// never is when nothing falls due.
type never struct{}

// NextDue implements [worker.Schedule].
func (never) NextDue(context.Context) (time.Time, bool, error) { return time.Time{}, false, nil }
