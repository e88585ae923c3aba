// Package stats adds the figures of two owners. Each answers the same operation for what
// is its own, and zero for the rest, so that the sum is the whole fleet's, or what of it
// the caller's scope admits.
//
// The owners remember for a moment what they have counted; nothing is remembered here.
package stats

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/httpapi/client"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/services/gateway/internal/edge"
)

// owners of certificates, jobs and agents.
var owners = [...]string{"issuer", "deployment"}

// Figures answers operations by asking the owners.
type Figures struct {
	transport http.RoundTripper
	clock     clock.Clock
	started   time.Time
}

// New returns the figures of a gateway that starts now.
func New(transport http.RoundTripper, c clock.Clock) *Figures {
	return &Figures{transport: transport, clock: c, started: c.Now()}
}

// ask has every owner answer an operation at once.
func ask[T any](f *Figures, operation string, r *http.Request) (answers [len(owners)]T, err error) {
	var g errgroup.Group
	for i, service := range owners {
		g.Go(func() error { return edge.Fetch(f.transport, service, operation, r, &answers[i]) })
	}
	return answers, g.Wait()
}

// answer makes a handler of what composes an answer.
func answer[T any](compose func(r *http.Request) (T, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := compose(r)
		if err != nil {
			httpx.WriteProblem(w, r, err)
			return
		}
		httpx.WriteJSON(w, http.StatusOK, v)
	})
}

// summary has the fields twice: in itself, and under data for clients that read them
// there.
type summary struct {
	client.StatsFigures
	Data client.StatsFigures `json:"data"`
}

// Summary answers with the figures of a dashboard.
func (f *Figures) Summary() http.Handler {
	return answer(func(r *http.Request) (summary, error) {
		of, err := ask[client.StatsFigures](f, "getStatsSummary", r)
		a, b := of[0], of[1]
		sum := client.StatsFigures{
			TotalCertificates:    a.TotalCertificates + b.TotalCertificates,
			ActiveCertificates:   a.ActiveCertificates + b.ActiveCertificates,
			ExpiringCertificates: a.ExpiringCertificates + b.ExpiringCertificates,
			ExpiredCertificates:  a.ExpiredCertificates + b.ExpiredCertificates,
			RevokedCertificates:  a.RevokedCertificates + b.RevokedCertificates,
			RenewalsInProgress:   a.RenewalsInProgress + b.RenewalsInProgress,
			ActiveAgents:         a.ActiveAgents + b.ActiveAgents,
			OfflineAgents:        a.OfflineAgents + b.OfflineAgents,
			TotalAgents:          a.TotalAgents + b.TotalAgents,
			PendingJobs:          a.PendingJobs + b.PendingJobs,
			FailedJobs:           a.FailedJobs + b.FailedJobs,
			CompleteJobs:         a.CompleteJobs + b.CompleteJobs,
			CompletedAt:          earlier(a.CompletedAt, b.CompletedAt),
		}
		return summary{sum, sum}, err
	})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// JobTrends answers with how many jobs ended how, by day.
func (f *Figures) JobTrends() http.Handler {
	return answer(func(r *http.Request) ([]client.StatsJobs, error) {
		of, err := ask[[]client.StatsJobs](f, "getStatsJobTrends", r)
		if err != nil {
			return nil, err
		}
		return trends(of[0], of[1])
	})
}

// trends adds day by day. At midnight one owner may have begun a day that the other has
// not: what it alone tells of is left to the next call.
func trends(a, b []client.StatsJobs) ([]client.StatsJobs, error) {
	other := map[string]client.StatsJobs{}
	for _, d := range b {
		other[d.Date] = d
	}
	if len(a) != len(b) {
		return nil, fmt.Errorf("two owners told of %d and %d days", len(a), len(b))
	}
	out := make([]client.StatsJobs, len(a))
	for i, d := range a {
		d.CompletedCount += other[d.Date].CompletedCount
		d.FailedCount += other[d.Date].FailedCount
		d.SuccessRate = rate(d.CompletedCount, d.FailedCount)
		out[i] = d
	}
	return out, nil
}

// rate is the share of success in percent, to two digits.
func rate(completed, failed int64) float64 {
	if completed+failed == 0 {
		return 0
	}
	return math.Round(float64(completed)/float64(completed+failed)*1e4) / 1e2
}

// Metrics answers with the fleet's gauges and counters, and since when this gateway is up.
func (f *Figures) Metrics() http.Handler {
	return answer(func(r *http.Request) (client.FleetMetrics, error) {
		of, err := ask[client.FleetMetrics](f, "getFleetMetrics", r)
		if err != nil {
			return client.FleetMetrics{}, err
		}
		return f.metrics(of[0], of[1]), nil
	})
}

func (f *Figures) metrics(sum, b client.FleetMetrics) client.FleetMetrics {
	g := &sum.Gauge
	g.CertificateTotal += b.Gauge.CertificateTotal
	g.CertificatePending += b.Gauge.CertificatePending
	g.CertificateActive += b.Gauge.CertificateActive
	g.CertificateExpiringSoon += b.Gauge.CertificateExpiringSoon
	g.CertificateExpired += b.Gauge.CertificateExpired
	g.CertificateRenewalInProgress += b.Gauge.CertificateRenewalInProgress
	g.CertificateFailed += b.Gauge.CertificateFailed
	g.CertificateRevoked += b.Gauge.CertificateRevoked
	g.CertificateArchived += b.Gauge.CertificateArchived
	g.AgentTotal += b.Gauge.AgentTotal
	g.AgentOnline += b.Gauge.AgentOnline
	g.AgentOffline += b.Gauge.AgentOffline
	g.JobPending += b.Gauge.JobPending
	c := &sum.Counter
	c.JobCompletedTotal += b.Counter.JobCompletedTotal
	c.JobFailedTotal += b.Counter.JobFailedTotal
	c.IssuanceCompletedTotal += b.Counter.IssuanceCompletedTotal
	c.IssuanceFailedTotal += b.Counter.IssuanceFailedTotal
	c.RenewalCompletedTotal += b.Counter.RenewalCompletedTotal
	c.RenewalFailedTotal += b.Counter.RenewalFailedTotal
	sum.Uptime.MeasuredAt = earlier(sum.Uptime.MeasuredAt, b.Uptime.MeasuredAt)
	sum.Uptime.ServerStarted = f.started
	sum.Uptime.UptimeSeconds = f.clock.Now().Sub(f.started).Seconds()
	return sum
}
