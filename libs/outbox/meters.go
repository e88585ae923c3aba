package outbox

import (
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// meters are a relay's collectors. Relays of one process share them and differ by labels.
type meters struct {
	unsentAge                prometheus.Gauge
	published, away, refused *prometheus.CounterVec
}

func newMeters(registry prometheus.Registerer, streams []string) *meters {
	relay := "all"
	if len(streams) > 0 {
		relay = strings.Join(streams, ",")
	}
	age := register(registry, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "certctl_outbox_unsent_age_seconds",
		Help: "Age of the oldest message that is not published yet; 0 if there is none. Measured once a second.",
	}, []string{"relay"}))
	perStream := func(name, help string) *prometheus.CounterVec {
		return register(registry, prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "certctl_outbox_" + name, Help: help}, []string{"stream"}))
	}
	return &meters{
		unsentAge: age.WithLabelValues(relay),
		published: perStream("published_total", "Messages published."),
		away:      perStream("away_total", "Times that a stream took no messages."),
		refused:   perStream("refused_total", "Times that a single message was refused."),
	}
}

// register returns the collector to use: the given one, or the one that another relay has registered.
func register[C prometheus.Collector](registry prometheus.Registerer, c C) C {
	if registry == nil {
		return c
	}
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(c); errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	return c
}
