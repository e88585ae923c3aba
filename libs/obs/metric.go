package obs

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// NewRegistry returns an empty registry. A process that runs several services gives each its own.
func NewRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

// NewProcessRegistry returns a registry with the metrics of the Go runtime and of the process. One process has one.
func NewProcessRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// OfService returns a registry's metrics with the label service, so that those of several services can stand side by
// side under one name.
func OfService(name string, registry prometheus.Gatherer) prometheus.Gatherer {
	key := "service"
	label := &dto.LabelPair{Name: &key, Value: &name}
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := registry.Gather()
		for _, family := range families {
			for _, m := range family.GetMetric() {
				m.Label = append(m.GetLabel(), label)
				slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
			}
		}
		return families, err
	})
}

// MetricsHandler serves the registries' metrics together, as Prometheus and OpenMetrics read them. Two registries may
// share a metric's name only if their labels differ; see OfService.
func MetricsHandler(registries ...prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers(registries), promhttp.HandlerOpts{EnableOpenMetrics: true})
}
