package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl/libs/publish"
)

const (
	headerReserved = "Nats-"
	headerTTL      = "Nats-TTL"
)

// store stores messages in their order. On an error it is open which are stored; all are to be stored again, and those
// that are known then are passed over.
func store(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) error {
	for i, err := range publish.All(ctx, js, msgs) {
		if err != nil {
			return fmt.Errorf("publish to %s: %w", msgs[i].Subject, err)
		}
	}
	return nil
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
