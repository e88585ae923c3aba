package app

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/lint"
	"github.com/certctl/certctl/services/issuer/internal/standing"
)

// meters count what CAs are asked and how they stand, and what linters find.
type meters struct {
	seconds   *prometheus.HistogramVec
	circuits  *prometheus.GaugeVec
	fallbacks *prometheus.CounterVec
	findings  *prometheus.CounterVec
}

func newMeters(r prometheus.Registerer) (*meters, error) {
	m := &meters{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "certctl_issuer_sign_seconds",
			Help:    "Time a CA takes to answer a request for a certificate, by issuer and code of the fault (ok if there is none).",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 30},
		}, []string{"issuer_id", "code"}),
		circuits: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "certctl_issuer_circuit_open",
			Help: "Whether a CA is left alone because it fails again and again: 1 open, 0.5 being tried, 0 closed.",
		}, []string{"issuer_id"}),
		fallbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certctl_issuer_fallbacks_total",
			Help: "Certificates that a fallback has issued in place of the certificate's own issuer.",
		}, []string{"issuer_id", "fallback_id"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certctl_issuer_lint_findings_total",
			Help: "Findings about certificates that were issued or refused, by lint and level.",
		}, []string{"lint", "level"}),
	}
	for _, c := range []prometheus.Collector{m.seconds, m.circuits, m.fallbacks, m.findings} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of CAs: %w", err)
		}
	}
	return m, nil
}

func (m *meters) asked(issuerID string, took time.Duration, err error) {
	code := "ok"
	if err != nil {
		code = string(fault.CodeOf(err))
	}
	m.seconds.WithLabelValues(issuerID, code).Observe(took.Seconds())
}

func (m *meters) circuit(issuerID string, state standing.State) {
	value := 0.0
	switch state {
	case standing.Open:
		value = 1
	case standing.HalfOpen:
		value = 0.5
	case standing.Closed:
	}
	m.circuits.WithLabelValues(issuerID).Set(value)
}

func (m *meters) fellBack(issuerID, fallbackID string) {
	m.fallbacks.WithLabelValues(issuerID, fallbackID).Inc()
}

func (m *meters) found(f lint.Finding) { m.findings.WithLabelValues(f.Lint, string(f.Level)).Inc() }
