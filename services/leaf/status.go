package leaf

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/services/leaf/internal/broker"
	"github.com/certctl/certctl/services/leaf/internal/link"
	"github.com/certctl/certctl/services/leaf/internal/metric"
)

// status is the listener for those who watch the leaf.
type status struct {
	server   *broker.Broker
	link     *link.Link
	reports  func(context.Context) (uint64, error)
	registry *prometheus.Registry
	log      *slog.Logger
}

// serve answers until ctx ends. A leaf without its hub is ready: agents can work.
func (s status) serve(ctx context.Context, address string) error {
	metric.Gauge(s.registry, "hub_connected", "1 while there is a link to the hub.", func() float64 {
		if s.link.IsUp() {
			return 1
		}
		return 0
	})
	metric.Gauge(s.registry, "link_cuts", "How often a silent link was made anew.", func() float64 { return float64(s.link.Cuts()) })
	metric.Gauge(s.registry, "agents_connected", "Connections of agents.", func() float64 { return float64(s.server.Agents()) })
	metric.Gauge(s.registry, "reports_waiting", "Reports that the hub has not taken yet.", func() float64 {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		n, err := s.reports(ctx)
		if err != nil {
			s.log.Debug("count reports", "error", err)
			return -1
		}
		return float64(n)
	})
	checks := health.New(s.log)
	checks.Add("jetstream", func(context.Context) error { return s.server.Health() })
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", obs.MetricsHandler(s.registry))
	mux.Handle("GET /health", checks.LiveHandler())
	mux.Handle("GET /ready", checks.ReadyHandler())
	return httpx.Serve(ctx, httpx.Listener{Address: address, Log: s.log, DrainTimeout: time.Second}, mux)
}

func reportsWaiting(js jetstream.JetStream) func(context.Context) (uint64, error) {
	return func(ctx context.Context) (uint64, error) {
		s, err := js.Stream(ctx, subject.StreamSiteReports)
		if err != nil {
			return 0, err
		}
		return s.CachedInfo().State.Msgs, nil
	}
}

func gatewayClient(caFile string) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second}
	if caFile != "" {
		roots, err := readCAs(caFile)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	}
	return &http.Client{Transport: transport}, nil
}
