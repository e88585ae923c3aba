package api

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/fresh"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// figures are what was counted lately, by scope: at most once in 1.5 s however many look,
// and by day less often; see the issuer's.
type figures struct {
	now   fresh.Answers[string, postgres.Figures]
	byDay fresh.Answers[string, []postgres.Day]
}

var (
	figuresAge = fresh.Limits{Fresh: 1500 * time.Millisecond, Old: 2 * time.Second}
	byDayAge   = fresh.Limits{Fresh: 5 * time.Second, Old: 10 * time.Second}
)

const (
	defaultDays = 30
	maxDays     = 365
)

func (a *Answers) counted(ctx context.Context) (postgres.Figures, error) {
	scope := authn.FromContext(ctx).Scope
	return a.figures.now.Get(ctx, scopeKey(scope), figuresAge, func(ctx context.Context) (postgres.Figures, error) {
		f, err := postgres.CountFigures(ctx, a.DB, scope, a.Clock.Now())
		return f, pg.Fault(err)
	})
}

func scopeKey(scope authn.Scope) string {
	text, err := json.Marshal(scope)
	if err != nil {
		panic("api: a scope always encodes: " + err.Error())
	}
	return string(text)
}

// agents are all that are not retired.
func agents(f *postgres.Figures) (n int64) {
	for status, of := range f.Agents {
		if status != string(fleet.Retired) {
			n += of
		}
	}
	return n
}

// GetStatsSummary implements the operation, for what this service owns.
func (a *Answers) GetStatsSummary(ctx context.Context, _ deploymentapi.GetStatsSummaryRequestObject) (deploymentapi.GetStatsSummaryResponseObject, error) {
	f, err := a.counted(ctx)
	if err != nil {
		return nil, err
	}
	return deploymentapi.GetStatsSummary200JSONResponse{
		ActiveAgents:  f.Agents[string(fleet.Online)],
		OfflineAgents: f.Agents[string(fleet.Offline)],
		TotalAgents:   agents(&f),
		PendingJobs:   f.Jobs[string(rollout.Pending)],
		FailedJobs:    f.Jobs[string(rollout.Failed)],
		CompleteJobs:  f.Jobs[string(rollout.Completed)],
		CompletedAt:   f.At,
	}, nil
}

// GetFleetMetrics implements the operation, for what this service owns. The uptime is the
// gateway's to tell.
func (a *Answers) GetFleetMetrics(ctx context.Context, _ deploymentapi.GetFleetMetricsRequestObject) (deploymentapi.GetFleetMetricsResponseObject, error) {
	f, err := a.counted(ctx)
	if err != nil {
		return nil, err
	}
	var out deploymentapi.GetFleetMetrics200JSONResponse
	out.Gauge.AgentTotal = agents(&f)
	out.Gauge.AgentOnline, out.Gauge.AgentOffline = f.Agents[string(fleet.Online)], f.Agents[string(fleet.Offline)]
	out.Gauge.JobPending = f.Jobs[string(rollout.Pending)]
	out.Counter.JobCompletedTotal, out.Counter.JobFailedTotal = f.Jobs[string(rollout.Completed)], f.Jobs[string(rollout.Failed)]
	out.Uptime.MeasuredAt, out.Uptime.ServerStarted = f.At, f.At
	return out, nil
}

// GetStatsJobTrends implements the operation, for the jobs of this service. The share of
// success is of both owners' jobs, so the gateway makes it.
func (a *Answers) GetStatsJobTrends(ctx context.Context, r deploymentapi.GetStatsJobTrendsRequestObject) (deploymentapi.GetStatsJobTrendsResponseObject, error) {
	days := defaultDays
	if r.Params.Days != nil {
		days = *r.Params.Days
	}
	if days < 1 || days > maxDays {
		return nil, fault.InvalidFields(fault.Field{Name: "days", Reason: "must be from 1 to 365"})
	}
	scope := authn.FromContext(ctx).Scope
	counted, err := a.figures.byDay.Get(ctx, fmt.Sprint(days, scopeKey(scope)), byDayAge, func(ctx context.Context) ([]postgres.Day, error) {
		out, err := postgres.CountEndings(ctx, a.DB, scope, days, a.Clock.Now())
		return out, pg.Fault(err)
	})
	if err != nil {
		return nil, err
	}
	out := make(deploymentapi.GetStatsJobTrends200JSONResponse, len(counted))
	for i, d := range counted {
		out[i] = deploymentapi.StatsJobs{Date: d.Date, CompletedCount: d.Completed, FailedCount: d.Failed}
	}
	return out, nil
}
