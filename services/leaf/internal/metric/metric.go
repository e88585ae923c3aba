// Package metric counts what a leaf does, for its metrics listener.
package metric

import "github.com/prometheus/client_golang/prometheus"

// Leaf is the counters of a leaf. Make it with New.
type Leaf struct {
	// Commands and Reports are messages that were carried over and are safe on the
	// other side.
	Commands prometheus.Counter
	Reports  prometheus.Counter
	// Retries by direction ("commands", "reports") are attempts that failed.
	Retries *prometheus.CounterVec
	// Dropped by direction are messages that no retry could carry over.
	Dropped *prometheus.CounterVec
	// Requests by verb ("enrol" for all tokens) and outcome.
	Requests *prometheus.CounterVec
	// Accounts by outcome are account JWTs that arrived.
	Accounts *prometheus.CounterVec
}

// New registers the counters.
func New(r prometheus.Registerer) *Leaf {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "certctl", Subsystem: "leaf", Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "certctl", Subsystem: "leaf", Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	return &Leaf{
		Commands: counter("commands_relayed_total", "Orders brought from the hub and stored at the site."),
		Reports:  counter("reports_relayed_total", "Reports brought to the hub and stored there."),
		Retries:  vector("relay_retries_total", "Attempts to carry messages over that failed.", "direction"),
		Dropped:  vector("relay_dropped_total", "Messages that cannot be carried over.", "direction"),
		Requests: vector("requests_total", "Questions of agents.", "verb", "outcome"),
		Accounts: vector("account_updates_total", "Account JWTs that arrived.", "outcome"),
	}
}

// Gauge registers a value that is read when it is asked for.
func Gauge(r prometheus.Registerer, name, help string, value func() float64) {
	r.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Namespace: "certctl", Subsystem: "leaf", Name: name, Help: help}, value))
}
