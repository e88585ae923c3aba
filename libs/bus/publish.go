package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/publish"
)

// synced is how long after its acknowledgement a message is certainly on the disk of a server that has run on: the server
// inside certctl syncs each second, and another has to sync as often (docs/operations/running.md).
const synced = 2500 * time.Millisecond

// publishError gives the error of a publish its code. What the server refuses for the message's own sake (too large, a
// stream that does not take it) stays as it is and counts as internal; all else may pass.
func publishError(err error) error {
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.Code >= 400 && refused.Code < 500 && refused.Code != 429 {
		return fmt.Errorf("publish to stream: %w", err)
	}
	return fault.Wrap(err, fault.Unavailable, "message was not acknowledged by its stream")
}

// OutboxRelay returns a relay that takes the rows of an outbox to the bus. Streams and what it shares with the service may
// be set before it runs.
func (c *Conn) OutboxRelay(pool *pgxpool.Pool, metrics prometheus.Registerer) *outbox.Relay {
	return &outbox.Relay{
		Pool: pool, Publish: outboxPublish(c.JS), Settle: synced, Server: c.NC.ConnectedServerId, Log: c.log, Metrics: metrics,
	}
}

// outboxPublish returns the function with which an outbox.Relay publishes to js. Its error has the code Unavailable when
// the bus is away, and another when a message is refused.
func outboxPublish(js jetstream.JetStream) func(context.Context, []outbox.Message) error {
	return func(ctx context.Context, rows []outbox.Message) error {
		ctx, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		msgs := make([]*nats.Msg, len(rows))
		for i, row := range rows {
			row.Header[headerMsgID] = []string{row.ID}
			msgs[i] = &nats.Msg{Subject: row.Subject, Header: row.Header, Data: row.Body}
		}
		var refused error
		for i, err := range publish.All(ctx, js, msgs) {
			if err == nil {
				continue
			}
			err = fmt.Errorf("publish %s to %s: %w", rows[i].ID, rows[i].Stream, publishError(err))
			if fault.CodeOf(err) == fault.Unavailable {
				return err
			}
			refused = errors.Join(refused, err)
		}
		return refused
	}
}

// sinceSeconds is for histograms.
func sinceSeconds(t time.Time) float64 { return time.Since(t).Seconds() }
