package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Error codes of JetStream that mean that a batch has to be published one by one.
const (
	codeBatchDisabled  = 10174
	codeBatchDuplicate = 10201
)

const (
	headerReserved = "Nats-"
	headerTTL      = "Nats-TTL"
)

// publish makes messages durable, in their order and each once: all in one atomic
// batch, which costs one write to the disk and cannot break in the middle; or, when
// some are known to the stream already, one after the other, where a duplicate is a
// success.
func publish(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) error {
	if len(msgs) > 1 {
		_, err := jetstreamext.PublishMsgBatch(ctx, js, msgs)
		if err == nil || !oneByOne(err) {
			return err
		}
		for _, m := range msgs {
			m.Reply = ""
			m.Header.Del(jetstreamext.BatchIDHeader)
			m.Header.Del(jetstreamext.BatchSeqHeader)
			m.Header.Del(jetstreamext.BatchCommitHeader)
		}
	}
	for _, m := range msgs {
		if _, err := js.PublishMsg(ctx, m); err != nil {
			return fmt.Errorf("publish to %s: %w", m.Subject, err)
		}
	}
	return nil
}

func oneByOne(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == codeBatchDisabled || api.ErrorCode == codeBatchDuplicate)
}

// carried is the message under its subject on the other side. Of the headers that
// mean something to a server only the id is kept, and those that keep names: the rest
// told how the message was stored on this side, or would steer the stream on the
// other.
func carried(m jetstream.Msg, to string, keep ...string) *nats.Msg {
	out := nats.NewMsg(to)
	out.Data = m.Data()
	for key, values := range m.Headers() {
		if strings.HasPrefix(key, headerReserved) && key != nats.MsgIdHdr && !slices.Contains(keep, key) {
			continue
		}
		out.Header[key] = values
	}
	return out
}
