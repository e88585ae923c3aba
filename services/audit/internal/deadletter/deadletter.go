// Package deadletter shows what consumers gave up on.
//
// The letters stay where their consumers left them, in a stream that loses nothing for 90
// days, and are read from there: a copy in a table could fail to be made just as the
// message failed to be handled. What they hold is not shown, since it may be anything.
package deadletter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/fault"
)

// Letter is a message that a consumer gave up on.
type Letter struct {
	// Sequence is its place in the stream of dead letters.
	Sequence          uint64
	Service, Consumer string
	Reason            string
	Delivered         int
	// Subject is where it was published, MessageID, Type and Entity what it says of itself,
	// empty if it is broken.
	Subject, MessageID, Type, Entity string
	Size                             int
	StoredAt                         time.Time
}

// atOnce is how many letters are asked for at a time.
const atOnce = 16

// List returns letters, newest first, and how many there are in all: those before a place
// if it is not zero, else those behind so many of the newest.
func List(ctx context.Context, js jetstream.JetStream, before uint64, limit, offset int) ([]Letter, int64, error) {
	stream, err := js.Stream(ctx, subject.StreamDeadLetters)
	if err != nil {
		return nil, 0, away(err)
	}
	state := stream.CachedInfo().State
	newest := state.LastSeq
	if before > 0 {
		newest = min(newest, before-1)
	}
	if uint64(offset) > newest { //nolint:gosec // pages count from 0
		return nil, int64(state.Msgs), nil //nolint:gosec // messages are fewer than that
	}
	newest -= uint64(offset) //nolint:gosec // as above
	// Nothing is deleted but what is too old, so there are no gaps.
	oldest := state.FirstSeq
	if newest+1 > oldest+uint64(limit) { //nolint:gosec // a page has a size
		oldest = newest + 1 - uint64(limit) //nolint:gosec // as above
	}
	if state.Msgs == 0 || newest < oldest {
		return nil, int64(state.Msgs), nil //nolint:gosec // as above
	}
	found := make([]*Letter, newest-oldest+1)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range found {
		g.Go(func() error {
			m, err := stream.GetMsg(ctx, newest-uint64(i)) //nolint:gosec // an index
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return nil // it has just become too old
			}
			if err != nil {
				return away(err)
			}
			found[i] = letter(m)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	out := make([]Letter, 0, len(found))
	for _, l := range found {
		if l != nil {
			out = append(out, *l)
		}
	}
	return out, int64(state.Msgs), nil //nolint:gosec // as above
}

func away(err error) error {
	return fault.Wrap(fmt.Errorf("read dead letters: %w", err), fault.Unavailable, "the stream of dead letters cannot be read now")
}

func letter(m *jetstream.RawStreamMsg) *Letter {
	l := &Letter{
		Sequence: m.Sequence, Consumer: m.Header.Get(bus.HeaderDLQConsumer), Reason: m.Header.Get(bus.HeaderDLQError),
		Subject: m.Header.Get(bus.HeaderDLQSubject), Size: len(m.Data), StoredAt: m.Time.UTC(),
	}
	// certctl.dlq.<service>.<consumer>
	if parts := strings.Split(m.Subject, "."); len(parts) == 4 {
		l.Service = parts[2]
	}
	if n, err := strconv.Atoi(m.Header.Get(bus.HeaderDLQDelivered)); err == nil {
		l.Delivered = n
	}
	// It bears another id now, so it cannot be decoded in full; what can be read is enough.
	was, _ := bus.Decode(l.Subject, m.Header, nil)
	l.MessageID, l.Type, l.Entity = cmp.Or(was.ID, lastOf(m.Header)), was.Type, was.Entity
	return l
}

// lastOf is the message's id, as the letter's own id ends with it: dlq:<consumer>:<id>.
func lastOf(h nats.Header) string {
	_, rest, _ := strings.Cut(h.Get(nats.MsgIdHdr), ":")
	_, id, _ := strings.Cut(rest, ":")
	return id
}
