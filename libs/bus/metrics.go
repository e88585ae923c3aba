package bus

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are shared by all connections that register with the same registry, as the services of one process do.
type metrics struct {
	denied, slow prometheus.Counter
	messages     *prometheus.CounterVec
	batches      *prometheus.HistogramVec
	seconds      *prometheus.HistogramVec
	rebinds      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		denied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "certctl_bus_permission_violations_total", Help: "Publishes and subscriptions that the server refused.",
		}),
		slow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "certctl_bus_slow_consumers_total", Help: "Times that messages were dropped because a subscription was slow.",
		}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certctl_bus_consumed_total", Help: "Messages settled, by outcome: done, duplicate, retry, dead.",
		}, []string{"consumer", "outcome"}),
		batches: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "certctl_bus_consumed_batch_size", Help: "Messages in one transaction.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512},
		}, []string{"consumer"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "certctl_bus_consumed_batch_seconds", Help: "Time of one batch, commit included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5, 30},
		}, []string{"consumer"}),
		rebinds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certctl_bus_rebinds_total", Help: "Times that a consumer was bound again after an error or a silence.",
		}, []string{"consumer"}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(register(reg, &m.denied), register(reg, &m.slow), register(reg, &m.messages),
		register(reg, &m.batches), register(reg, &m.seconds), register(reg, &m.rebinds))
}

// register registers a collector, or takes over the equal one that another connection has registered.
func register[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := there.ExistingCollector.(C); ok {
			*c = existing
			return nil
		}
	}
	return err
}
