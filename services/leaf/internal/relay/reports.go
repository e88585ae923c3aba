package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/stream"
	"github.com/certctl/certctl/contracts/subject"
)

// reports brings the agents' reports to the hub, for as long as up lives.
func (r *Relay) reports(ctx, up context.Context) error {
	consumer, err := r.rewind(ctx)
	if err != nil {
		return err
	}
	for up.Err() == nil {
		if err := r.fetchReports(up, consumer); err != nil {
			return err
		}
	}
	return context.Cause(up)
}

// rewind makes the relay's durable anew. The stream forgets what is acknowledged, so a
// fresh durable starts with the oldest report that is not safe at the hub, at once and
// in order, where the old one would first wait for acknowledgements that never come.
func (r *Relay) rewind(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, consumers := stream.Leaf()
	spec := consumers[0]
	err := r.Local.DeleteConsumer(ctx, spec.Stream, spec.Config.Durable)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, fmt.Errorf("rewind the reports: %w", err)
	}
	consumer, err := r.Local.CreateConsumer(ctx, spec.Stream, spec.Config)
	if err != nil {
		return nil, fmt.Errorf("rewind the reports: %w", err)
	}
	return consumer, nil
}

func (r *Relay) fetchReports(up context.Context, consumer jetstream.Consumer) error {
	fetch, cancel := context.WithTimeout(up, pullExpiry)
	defer cancel()
	batch, err := consumer.Fetch(batchSize, jetstream.FetchContext(fetch), jetstream.FetchHeartbeat(pullHeartbeat))
	if err != nil {
		return fmt.Errorf("fetch reports: %w", err)
	}
	for m := range batch.Messages() {
		if err := r.deliver(up, gather(m, batch.Messages())); err != nil {
			return err
		}
	}
	if err := batch.Error(); err != nil && fetch.Err() == nil {
		return fmt.Errorf("fetch reports: %w", err)
	}
	return nil
}

// deliver makes reports durable at the hub and acknowledges them. On an error all of
// them come again.
func (r *Relay) deliver(up context.Context, batch []jetstream.Msg) error {
	var reports []jetstream.Msg
	var out []*nats.Msg
	for _, m := range batch {
		from, ok := subject.ParseSite(m.Subject())
		if !ok || from.Agent == subject.AgentSite || from.Agent == subject.AgentEnrol {
			r.refuse(m, "reports", "not a subject of a report")
			continue
		}
		reports = append(reports, m)
		out = append(out, carried(m, subject.AgentReport(r.Site, from.Agent, from.Verb, from.Job)))
	}
	if len(out) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(up, callTimeout)
	defer cancel()
	if err := bring(ctx, r.Hub, out); err != nil {
		return fmt.Errorf("bring %d reports to the hub: %w", len(out), err)
	}
	r.acknowledge(reports)
	r.Metrics.Reports.Add(float64(len(reports)))
	return nil
}
