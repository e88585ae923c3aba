// Package publish stores messages in streams, many at once.
package publish

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// inFlight is how many messages are sent before the first of them is acknowledged.
const inFlight = 1000

// All sends messages in the order in which they are given, and returns the error of each when all are acknowledged or
// refused, or ctx has ended; nil means that every one is stored. One whose id its stream knows counts as stored. Where an
// error leaves open whether a message is stored, sending it again with the same id is safe.
func All(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) []error {
	if len(msgs) == 1 {
		if _, err := js.PublishMsg(ctx, msgs[0]); err != nil {
			return []error{err}
		}
		return nil
	}
	errs := make([]error, len(msgs))
	failed := false
	for at := 0; at < len(msgs); at += inFlight {
		end := min(at+inFlight, len(msgs))
		failed = together(ctx, js, msgs[at:end], errs[at:end]) || failed
	}
	if !failed {
		return nil
	}
	return errs
}

func together(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg, errs []error) (failed bool) {
	acks := make([]jetstream.PubAckFuture, len(msgs))
	for i, m := range msgs {
		acks[i], errs[i] = js.PublishMsgAsync(m)
	}
	for i, ack := range acks {
		if errs[i] == nil {
			select {
			case <-ack.Ok():
			case errs[i] = <-ack.Err():
			case <-ctx.Done():
				errs[i] = ctx.Err()
			}
		}
		failed = failed || errs[i] != nil
	}
	return failed
}
