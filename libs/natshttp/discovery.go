package natshttp

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// discovery answers what "nats micro" asks of a service: ping, info and stats, of every service, of this one by name,
// and of this instance.
type discovery struct {
	nc         *nats.Conn
	identity   micro.ServiceIdentity
	started    time.Time
	operations []operation
}

// operation counts what happened on one operation.
type operation struct {
	name, subject string

	mu       sync.Mutex
	requests int           // guarded by mu
	errors   int           // guarded by mu
	last     string        // guarded by mu: the last error
	took     time.Duration // guarded by mu: in all
}

func newDiscovery(nc *nats.Conn, o Options, instance string) *discovery {
	d := &discovery{
		nc:         nc,
		identity:   micro.ServiceIdentity{Name: o.Service, ID: instance, Version: o.Version, Metadata: map[string]string{}},
		started:    time.Now().UTC(),
		operations: make([]operation, len(o.Operations)),
	}
	for i, name := range o.Operations {
		d.operations[i].name, d.operations[i].subject = name, subjectPrefix(o.Service)+name
	}
	return d
}

// count adds a finished request. wrong is empty, or what the service did wrong.
func (o *operation) count(took time.Duration, wrong string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests++
	o.took += took
	if wrong != "" {
		o.errors++
		o.last = wrong
	}
}

func (o *operation) stats() *micro.EndpointStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &micro.EndpointStats{
		Name: o.name, Subject: o.subject, QueueGroup: queueGroup,
		NumRequests: o.requests, NumErrors: o.errors, LastError: o.last,
		ProcessingTime: o.took, AverageProcessingTime: o.took / time.Duration(max(o.requests, 1)),
	}
}

func (d *discovery) subscribe() ([]*nats.Subscription, error) {
	answers := map[micro.Verb]func() any{micro.PingVerb: d.ping, micro.InfoVerb: d.info, micro.StatsVerb: d.stats}
	var subs []*nats.Subscription
	for verb, answer := range answers {
		for _, to := range [][2]string{{"", ""}, {d.identity.Name, ""}, {d.identity.Name, d.identity.ID}} {
			subject, err := micro.ControlSubject(verb, to[0], to[1])
			if err != nil {
				return subs, fmt.Errorf("discovery of %s: %w", d.identity.Name, err)
			}
			sub, err := d.nc.Subscribe(subject, func(m *nats.Msg) { respond(m, answer()) })
			if err != nil {
				return subs, fmt.Errorf("subscribe to %s: %w", subject, err)
			}
			subs = append(subs, sub)
		}
	}
	return subs, nil
}

func respond(m *nats.Msg, v any) {
	b, err := json.Marshal(v)
	if err != nil || m.Reply == "" {
		return
	}
	// Whoever asked asks again.
	_ = m.Respond(b)
}

func (d *discovery) ping() any {
	return micro.Ping{ServiceIdentity: d.identity, Type: micro.PingResponseType}
}

func (d *discovery) info() any {
	info := micro.Info{ServiceIdentity: d.identity, Type: micro.InfoResponseType}
	for i := range d.operations {
		o := &d.operations[i]
		info.Endpoints = append(info.Endpoints, micro.EndpointInfo{Name: o.name, Subject: o.subject, QueueGroup: queueGroup})
	}
	return info
}

func (d *discovery) stats() any {
	stats := micro.Stats{ServiceIdentity: d.identity, Type: micro.StatsResponseType, Started: d.started}
	for i := range d.operations {
		stats.Endpoints = append(stats.Endpoints, d.operations[i].stats())
	}
	return stats
}
