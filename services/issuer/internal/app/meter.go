package app

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/libs/fault"
)

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
