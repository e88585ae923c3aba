package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/outbox"
)

const (
	// MaxBatch is the most messages in one atomic batch, as many as an outbox.Relay claims. The server's own limit is 1000.
	MaxBatch = 250
	// atomicFrom is from how many messages on a batch pays: the server sets up a store of its own for each, which takes
	// as long as syncing about a dozen messages one by one (docs/adr/0001-issue-path.md).
	atomicFrom = 16
)

// The headers of an atomic batch (ADR-50). They are set here and not by jetstreamext because that package demands an
// acknowledgement of the first message before it sends the second, which doubles the time of a batch, and keeps its
// headers on messages that must then go singly.
const (
	headerBatchID     = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
)

type batchAck struct {
	Error  *jetstream.APIError `json:"error"`
	Stream string              `json:"stream"`
	Batch  string              `json:"batch"`
	Count  int                 `json:"count"`
}

// publishDurably stores the messages of one stream, at most MaxBatch of them, and returns the error of each, or nil when
// all are stored. Few are sent singly, one behind the other; so is a batch that the server rejects (it rejects the whole
// when it knows one of the ids), where a known id counts as stored.
func publishDurably(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) []error {
	if len(msgs) >= atomicFrom {
		err := publishAtomic(ctx, js.Conn(), msgs)
		var rejected *jetstream.APIError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &rejected):
			return repeat(publishError(err), len(msgs))
		}
	}
	return publishSingly(ctx, js, msgs)
}

func publishAtomic(ctx context.Context, nc *nats.Conn, msgs []*nats.Msg) error {
	id := nuid.Next()
	last := len(msgs) - 1
	for i, m := range msgs {
		m.Header[headerBatchID] = []string{id}
		m.Header[headerBatchSeq] = []string{strconv.Itoa(i + 1)}
		if i < last {
			if err := nc.PublishMsg(m); err != nil {
				return err
			}
		}
	}
	msgs[last].Header[headerBatchCommit] = []string{"1"}
	reply, err := nc.RequestMsgWithContext(ctx, msgs[last])
	for _, m := range msgs {
		delete(m.Header, headerBatchID)
		delete(m.Header, headerBatchSeq)
		delete(m.Header, headerBatchCommit)
	}
	if err != nil {
		return err
	}
	var ack batchAck
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return fmt.Errorf("acknowledgement of a batch: %w", err)
	}
	if ack.Error != nil {
		return ack.Error
	}
	if ack.Stream == "" || ack.Batch != id || ack.Count != len(msgs) {
		return fmt.Errorf("acknowledgement of a batch of %d is for %d messages of batch %q", len(msgs), ack.Count, ack.Batch)
	}
	return nil
}

func publishSingly(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) []error {
	if len(msgs) == 1 {
		if _, err := js.PublishMsg(ctx, msgs[0]); err != nil {
			return []error{publishError(err)}
		}
		return nil
	}
	futures := make([]jetstream.PubAckFuture, len(msgs))
	errs := make([]error, len(msgs))
	failed := false
	for i, m := range msgs {
		futures[i], errs[i] = js.PublishMsgAsync(m)
	}
	for i, f := range futures {
		if errs[i] == nil {
			select {
			case <-f.Ok():
			case errs[i] = <-f.Err():
			case <-ctx.Done():
				errs[i] = ctx.Err()
			}
		}
		if errs[i] != nil {
			errs[i], failed = publishError(errs[i]), true
		}
	}
	if !failed {
		return nil
	}
	return errs
}

// publishError gives the error of a publish its code. What the server refuses for the message's own sake (too large, a
// stream that does not take it) stays as it is and counts as internal; all else may pass.
func publishError(err error) error {
	var refused *jetstream.APIError
	if errors.As(err, &refused) && refused.Code >= 400 && refused.Code < 500 && refused.Code != 429 {
		return fmt.Errorf("publish to stream: %w", err)
	}
	return fault.Wrap(err, fault.Unavailable, "message was not acknowledged by its stream")
}

// OutboxPublish returns the function with which an outbox.Relay publishes to js. Its error has the code Unavailable when
// the bus is away, and another when a message is refused.
func OutboxPublish(js jetstream.JetStream) func(context.Context, []outbox.Message) error {
	return func(ctx context.Context, rows []outbox.Message) error {
		ctx, cancel := withTimeout(ctx)
		defer cancel()
		var refused error
		for chunk := range slices.Chunk(rows, MaxBatch) {
			msgs := make([]*nats.Msg, len(chunk))
			for i, row := range chunk {
				h := make(nats.Header, len(row.Header)+4)
				maps.Copy(h, row.Header)
				h[headerMsgID] = []string{row.ID}
				msgs[i] = &nats.Msg{Subject: row.Subject, Header: h, Data: row.Body}
			}
			for i, err := range publishDurably(ctx, js, msgs) {
				if err == nil {
					continue
				}
				err = fmt.Errorf("publish %s to %s: %w", chunk[i].ID, chunk[i].Stream, err)
				if fault.CodeOf(err) == fault.Unavailable {
					return err
				}
				refused = errors.Join(refused, err)
			}
		}
		return refused
	}
}

func repeat(err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// withTimeout bounds a publish of the package's own, beside the caller's deadline.
func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, apiTimeout)
}

// sinceSeconds is for histograms.
func sinceSeconds(t time.Time) float64 { return time.Since(t).Seconds() }
