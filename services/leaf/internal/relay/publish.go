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

	"github.com/certctl/certctl/libs/publish"
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

// bring stores reports at the hub, pipelined. On an error it is open which are stored; all are to be brought again, and
// those that are known then are passed over. So one may come after a later one, which nobody minds: an order that has ended
// hears no more.
func bring(ctx context.Context, hub jetstream.JetStream, reports []*nats.Msg) error {
	for i, err := range publish.All(ctx, hub, reports) {
		if err != nil {
			return fmt.Errorf("publish to %s: %w", reports[i].Subject, err)
		}
	}
	return nil
}

// give stores orders at the site, in their order and each once: all in one atomic batch, which cannot break in the middle,
// since a version that is installed after a newer one would stay; or, when some are known to the stream already, one
// after the other, where a duplicate is a success.
func give(ctx context.Context, local jetstream.JetStream, orders []*nats.Msg) error {
	if len(orders) > 1 {
		_, err := jetstreamext.PublishMsgBatch(ctx, local, orders)
		if err == nil || !oneByOne(err) {
			return err
		}
		for _, m := range orders {
			m.Reply = ""
			m.Header.Del(jetstreamext.BatchIDHeader)
			m.Header.Del(jetstreamext.BatchSeqHeader)
			m.Header.Del(jetstreamext.BatchCommitHeader)
		}
	}
	for _, m := range orders {
		if _, err := local.PublishMsg(ctx, m); err != nil {
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
