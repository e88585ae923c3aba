package app

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/issuer/internal/lint"
)

// count registers how often linters find what, and returns what counts it.
func count(r prometheus.Registerer) (func(lint.Finding), error) {
	found := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "certctl_issuer_lint_findings_total",
		Help: "Findings about certificates that were issued or refused, by lint and level.",
	}, []string{"lint", "level"})
	if err := r.Register(found); err != nil {
		return nil, fmt.Errorf("register the metrics of linters: %w", err)
	}
	return func(f lint.Finding) { found.WithLabelValues(f.Lint, string(f.Level)).Inc() }, nil
}

// meter registers how long each CA takes and what comes of it, and returns what counts it.
func meter(r prometheus.Registerer) (func(issuerID string, took time.Duration, err error), error) {
	asked := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "certctl_issuer_sign_seconds",
		Help:    "Time a CA takes to answer a request for a certificate, by issuer and code of the fault (ok if there is none).",
		Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 30},
	}, []string{"issuer_id", "code"})
	if err := r.Register(asked); err != nil {
		return nil, fmt.Errorf("register the metrics of CAs: %w", err)
	}
	return func(issuerID string, took time.Duration, err error) {
		code := "ok"
		if err != nil {
			code = string(fault.CodeOf(err))
		}
		asked.WithLabelValues(issuerID, code).Observe(took.Seconds())
	}, nil
}
