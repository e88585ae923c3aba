package deployment

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/inbox"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/services/deployment/internal/agentrpc"
	"github.com/certctl/certctl/services/deployment/internal/api"
	"github.com/certctl/certctl/services/deployment/internal/authority"
	"github.com/certctl/certctl/services/deployment/internal/desk"
	"github.com/certctl/certctl/services/deployment/internal/durable"
	"github.com/certctl/certctl/services/deployment/internal/enrolment"
	"github.com/certctl/certctl/services/deployment/internal/issuer"
	"github.com/certctl/certctl/services/deployment/internal/platform"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rpc"
	"github.com/certctl/certctl/services/deployment/internal/sweep"
)

const (
	// longestResend bounds the wait between two sendings of an unanswered order.
	longestResend = 6 * time.Hour
	// orderMemory is longer than a report can be on its way: it waits at a leaf for a
	// week and in the hub's stream for two.
	orderMemory = 60 * 24 * time.Hour
	// tokenMemory is how long a token that is of no use still gets a clear answer.
	tokenMemory = 30 * 24 * time.Hour
	pruneEvery  = time.Hour
)

// parts is the service, put together.
type parts struct {
	core, edge *bus.Conn
	log        *slog.Logger
	desk       *desk.Desk
	agents     *agentrpc.Server
	answers    *api.Answers
	asked      *rpc.Server
	relays     []*outbox.Relay
	sweepers   []*sweep.Sweeper
}

// committed wakes all that a commit may have made work for.
func (p *parts) committed() {
	for _, r := range p.relays {
		r.Wake()
	}
}

// heard wakes, besides, what looks after the next attempts.
func (p *parts) heard() {
	p.committed()
	if p.desk.Planned() {
		p.sweepers[0].Wake()
	}
}

// changed wakes the sweepers too, after what people do.
func (p *parts) changed() {
	p.committed()
	for _, s := range p.sweepers {
		s.Wake()
	}
}

func build(ctx context.Context, cfg Config, deps service.Deps) (*parts, error) {
	key, err := platform.Open(ctx, deps.DB, deps.Sealer)
	if err != nil {
		return nil, err
	}
	p := &parts{core: deps.Bus, edge: cfg.Edge.Bus, log: deps.Log}
	p.desk = &desk.Desk{
		DB: deps.DB, Key: key, Clock: deps.Clock, Log: deps.Log,
		Policy: desk.Policy{
			MaxAttempts: cfg.DeploymentMaxAttempts,
			Retry:       retry.Policy{Base: cfg.DeploymentRetryBase, Cap: cfg.DeploymentRetryCap, Jitter: 0.2},
			Resend:      retry.Policy{Base: cfg.DeploymentOrderDeadline, Cap: max(longestResend, cfg.DeploymentOrderDeadline), Jitter: 0.1},
			OrderLife:   cfg.DeploymentOrderLife,
		},
	}
	sites := &durable.Keeper{DB: deps.DB, JS: cfg.Edge.Bus.JS, Clock: deps.Clock, Log: deps.Log}
	office := &enrolment.Office{
		DB: deps.DB, Signer: cfg.Edge.Signer, PlatformKey: key.Public(), HubURLs: cfg.Edge.HubURLs,
		Clock: deps.Clock, EnsureSite: sites.Ensure, Committed: p.changed,
	}
	p.agents = &agentrpc.Server{
		DB: deps.DB, NC: cfg.Edge.Bus.NC, Office: office, Clock: deps.Clock, Log: deps.Log,
		OrderDeadline: cfg.DeploymentOrderDeadline, Committed: p.committed,
	}
	p.answers = &api.Answers{DB: deps.DB, Office: office, Desk: p.desk, Issuer: issuer.New(deps.Bus.NC), Clock: deps.Clock, Committed: p.changed}
	p.asked = &rpc.Server{Desk: p.desk, Log: deps.Log, Committed: p.committed}
	p.relays = []*outbox.Relay{
		relay(deps, "CORE", deps.Bus, subject.StreamEvents),
		relay(deps, "EDGE", cfg.Edge.Bus, subject.StreamAgentCommands),
	}
	revoker := &authority.Revoker{
		DB: deps.DB, NC: deps.Bus.NC, OperatorJWT: cfg.Edge.Signer.OperatorJWT(),
		Clock: deps.Clock, Log: deps.Log, Committed: p.committed,
	}
	p.sweepers = p.sweeps(cfg, deps, sites, revoker)
	return p, prepare(ctx, cfg, deps, office, revoker)
}

// prepare brings the schema up to what this process was started with.
func prepare(ctx context.Context, cfg Config, deps service.Deps, office *enrolment.Office, revoker *authority.Revoker) error {
	if err := revoker.Keep(ctx, cfg.Edge.AccountJWT); err != nil {
		return err
	}
	if cfg.Edge.LocalLeafKey != "" {
		if err := office.Local(ctx, cfg.Edge.LocalLeafKey); err != nil {
			return err
		}
	}
	return postgres.EnsureAllSites(ctx, deps.DB, deps.Clock.Now())
}

// relay takes one account's rows of the outbox to it, so that one account that is away
// does not hold up the other.
func relay(deps service.Deps, account string, conn *bus.Conn, stream string) *outbox.Relay {
	r := conn.OutboxRelay(deps.DB, prometheus.WrapRegistererWith(prometheus.Labels{"account": account}, deps.Metrics))
	r.Streams = []string{stream}
	return r
}

// sweeps puts what may hold up something else into sweepers of its own: only the first
// needs nothing but Postgres.
func (p *parts) sweeps(cfg Config, deps service.Deps, sites *durable.Keeper, revoker *authority.Revoker) []*sweep.Sweeper {
	due := func(query func(context.Context, postgres.Querier) (time.Time, error)) func(context.Context) (time.Time, error) {
		return func(ctx context.Context) (time.Time, error) { return query(ctx, deps.DB) }
	}
	with := func(tasks ...sweep.Task) *sweep.Sweeper {
		return sweep.New(cfg.DeploymentSweepInterval, deps.Clock, deps.Log, tasks...)
	}
	silence := &sweep.Silence{
		DB: deps.DB, NC: cfg.Edge.Bus.NC, Clock: deps.Clock, Interval: cfg.AgentHeartbeatInterval, Committed: p.committed,
	}
	return []*sweep.Sweeper{
		with(
			sweep.Task{Name: "unanswered orders", Do: p.then(p.desk.Chase), Next: due(postgres.NextOrder)},
			sweep.Task{Name: "attempts", Do: p.then(p.desk.Dispatch), Next: due(postgres.NextJob)},
		),
		with(
			sweep.Task{Name: "silent agents", Do: silence.Do, Next: silence.Next},
			sweep.Every("old rows", pruneEvery, deps.Clock, prune(deps)),
		),
		with(
			sweep.Task{Name: "revocations", Do: revoker.Revoke, Next: due(postgres.NextRevocation)},
			sweep.Task{Name: "account JWT", Do: revoker.Tell, Next: sweep.Unplanned},
			sweep.Once("newest account JWT", revoker.Catch),
		),
		with(sweep.Task{Name: "sites", Do: sites.Due, Next: due(postgres.NextSite)}),
	}
}

// then wakes the relays after work that left something to be said.
func (p *parts) then(do func(context.Context) (int, error)) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		n, err := do(ctx)
		if n > 0 && err == nil {
			p.committed()
		}
		return n, err
	}
}

func prune(deps service.Deps) func(context.Context) error {
	return func(ctx context.Context) error {
		now := deps.Clock.Now()
		if err := postgres.PruneOrders(ctx, deps.DB, now.Add(-orderMemory)); err != nil {
			return err
		}
		if err := postgres.PruneTokens(ctx, deps.DB, now.Add(-tokenMemory)); err != nil {
			return err
		}
		_, err := inbox.Prune(ctx, deps.DB, inbox.Keep)
		return err
	}
}
