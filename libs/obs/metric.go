package obs

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry returns an empty registry. A process that runs several services gives each its own.
func NewRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

// NewProcessRegistry returns a registry with the metrics of the Go runtime and of the process. One process has one.
func NewProcessRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// MetricsHandler serves the registries' metrics together, as Prometheus and OpenMetrics read them. Two registries may
// share a metric's name only if their labels differ.
func MetricsHandler(registries ...*prometheus.Registry) http.Handler {
	all := make(prometheus.Gatherers, len(registries))
	for i, r := range registries {
		all[i] = r
	}
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{EnableOpenMetrics: true})
}
