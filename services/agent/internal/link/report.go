package link

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/retry"
	"github.com/certctl/certctl/services/agent/internal/order"
	"github.com/certctl/certctl/services/agent/internal/spool"
)

const (
	typeReport     = "certctl.agent.report.v1"
	publishTimeout = 5 * time.Second
)

// flushing tries again while the leaf is there and refuses, because its stream is full.
var flushing = retry.Policy{Base: time.Second, Cap: time.Minute, Jitter: 0.3}

// Report delivers a report to the leaf's stream, or puts it on disk if the leaf is
// away or refuses it. When it returns nil the report cannot be lost.
func (l *Link) Report(ctx context.Context, o order.Order, outcome string, report command.Signed) error {
	body, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	m := spool.Message{
		ID:      reportID(o, outcome),
		Subject: subject.SiteReport(o.AgentID, subject.KindDeploy, o.JobID),
		Body:    body,
		At:      time.Now().UTC(),
	}
	m.Header = header(o, m)
	// What waits on disk goes first, so that a start is not told after its end.
	if l.Spool.Len() == 0 && l.nc.IsConnected() {
		if err = l.publish(ctx, m); err == nil {
			return nil
		}
		l.Log.WarnContext(ctx, "report not taken by the leaf, keeping it on disk", "job_id", o.JobID, "error", err)
	}
	if spoolErr := l.Spool.Add(m); spoolErr != nil {
		return errors.Join(spoolErr, err)
	}
	select {
	case l.spooled <- struct{}{}:
	default:
	}
	return nil
}

// reportID is the same for the same answer to the same message, and another when the
// platform asks again: it asks because it misses the answer, which must not be taken
// for a duplicate then.
func reportID(o order.Order, outcome string) string {
	h := sha256.Sum256([]byte(strings.Join([]string{o.AgentID, o.JobID, strconv.Itoa(o.Attempt), outcome, o.CauseID}, "\x00")))
	return "rep-" + hex.EncodeToString(h[:16])
}

// header is the report's envelope, a CloudEvent in binary mode.
func header(o order.Order, m spool.Message) map[string]string {
	h := map[string]string{
		jetstream.MsgIDHeader: m.ID,
		"ce-specversion":      "1.0",
		"ce-id":               m.ID,
		"ce-type":             typeReport,
		"ce-source":           "/certctl/agent/" + o.AgentID,
		"ce-subject":          "job/" + o.JobID,
		"ce-time":             m.At.Format(time.RFC3339Nano),
		"ce-datacontenttype":  "application/json",
		"ce-attempt":          strconv.Itoa(o.Attempt),
	}
	for name, value := range map[string]string{
		"ce-causationid": o.CauseID, "ce-correlationid": o.CorrelationID, "traceparent": o.TraceParent,
	} {
		if value != "" {
			h[name] = value
		}
	}
	return h
}

// publish returns nil once the leaf's stream holds the message.
func (l *Link) publish(ctx context.Context, m spool.Message) error {
	msg := nats.NewMsg(m.Subject)
	msg.Data = m.Body
	for name, value := range m.Header {
		// Not Set, which would write "ce-id" as "Ce-Id".
		msg.Header[name] = []string{value}
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err := l.js.PublishMsg(ctx, msg)
	return err
}

// flush hands the spool on whenever the leaf is there and something waits.
func (l *Link) flush(ctx context.Context) {
	for ctx.Err() == nil {
		up, err := l.presence.wait(ctx)
		if err != nil {
			return
		}
		if waiting := l.Spool.Len(); waiting > 0 {
			err := retry.Do(up, flushing, func(ctx context.Context) error { return l.Spool.Flush(ctx, l.publish) })
			if err != nil && up.Err() == nil {
				l.Log.Error("spool not flushed", "error", err)
			} else if err == nil {
				l.Log.Info("reports kept on disk were delivered", "count", waiting)
			}
		}
		if l.Spool.Len() > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-l.spooled:
		case <-l.presence.risen():
		}
	}
}
