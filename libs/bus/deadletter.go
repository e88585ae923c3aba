package bus

import (
	"context"
	"maps"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

// The headers that a dead letter has besides those of the message it was.
const (
	HeaderDLQConsumer  = "Certctl-Dlq-Consumer"
	HeaderDLQStream    = "Certctl-Dlq-Stream"
	HeaderDLQSequence  = "Certctl-Dlq-Sequence"
	HeaderDLQSubject   = "Certctl-Dlq-Subject"
	HeaderDLQDelivered = "Certctl-Dlq-Delivered"
	HeaderDLQError     = "Certctl-Dlq-Error"
)

const maxErrorText = 1024

// deadLetter stores a message that will not be tried again, and only then ends its delivery. A letter that was stored
// before a crash is known by its id. While it cannot be stored, the message comes again.
func (k *consumer) deadLetter(ctx context.Context, d delivery, cause error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	text := oneLine(cause.Error())
	if _, err := k.spec.DLQ.PublishMsg(ctx, k.letter(d, text)); err != nil {
		k.log.Error("dead letter could not be stored; message comes again", "message", d.ID, "error", err, "cause", text)
		k.settled(d, "retry", d.raw.NakWithDelay(k.spec.Retry.Delay(d.Delivered, nil)))
		return
	}
	k.log.Error("message became a dead letter", "message", d.ID, "type", d.Type, "subject", d.Subject,
		"sequence", d.Sequence, "delivered", d.Delivered, "error", text)
	k.settled(d, "dead", d.raw.TermWithReason(text))
}

func (k *consumer) letter(d delivery, text string) *nats.Msg {
	h := maps.Clone(d.raw.Headers())
	if h == nil {
		h = nats.Header{}
	}
	// The server would act on these again.
	for name := range h {
		if strings.HasPrefix(strings.ToLower(name), "nats-") {
			delete(h, name)
		}
	}
	id := d.ID
	if id == "" {
		id = d.Stream + "-" + strconv.FormatUint(d.Sequence, 10)
	}
	h[headerMsgID] = []string{"dlq:" + k.spec.Durable + ":" + id}
	h[HeaderDLQConsumer] = []string{k.spec.Durable}
	h[HeaderDLQStream] = []string{d.Stream}
	h[HeaderDLQSequence] = []string{strconv.FormatUint(d.Sequence, 10)}
	h[HeaderDLQSubject] = []string{d.raw.Subject()}
	h[HeaderDLQDelivered] = []string{strconv.Itoa(d.Delivered)}
	h[HeaderDLQError] = []string{text}
	return &nats.Msg{Subject: k.spec.DLQSubject, Header: h, Data: d.raw.Data()}
}

// oneLine makes an error's text fit a header and an advisory.
func oneLine(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
	if len(s) > maxErrorText {
		s = strings.ToValidUTF8(s[:maxErrorText], "")
	}
	return s
}
