// Package record sees that every call to the API reaches the audit service.
//
// Calls are stored in groups in the gateway's own outbox, one message a group: what ends
// while one group is on its way makes the next, and calls whose record nobody waits for
// are gathered a while.
package record

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/id"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
)

const (
	// backlog bounds the calls that wait. Beyond it reads go unrecorded, with a
	// warning, rather than being slowed down; changes wait.
	backlog = 8192
	// maxGroup and maxBytes keep a message below the 256 KiB that a stream accepts.
	maxGroup = 100
	maxBytes = 192 << 10
	// gatherFor is how long calls are gathered whose record nobody waits for.
	gatherFor = 100 * time.Millisecond
	// maxPath and maxMethod are what is kept of each, in bytes.
	maxPath   = 1 << 10
	maxMethod = 32
	// storeWithin is how long Postgres may take: who changes something waits for the
	// record.
	storeWithin = 2 * time.Second
)

// Recorder puts calls on record. It is safe for concurrent use; Run must be running.
type Recorder struct {
	pool    *pgxpool.Pool
	relay   *outbox.Relay
	clock   clock.Clock
	log     *slog.Logger
	waiting chan entry
}

// entry is a call, and who waits for it to be durable; nobody if stored is nil.
type entry struct {
	call   event.APICall
	stored chan error
}

// New returns a recorder over the gateway's schema, whose outbox relay publishes.
func New(pool *pgxpool.Pool, relay *outbox.Relay, c clock.Clock, log *slog.Logger) *Recorder {
	return &Recorder{pool: pool, relay: relay, clock: c, log: log, waiting: make(chan entry, backlog)}
}

// Durable returns when the call is stored. At the end of
// ctx it is left open whether it is.
func (r *Recorder) Durable(ctx context.Context, call event.APICall) error {
	e := entry{call: r.stamp(call), stored: make(chan error, 1)}
	select {
	case r.waiting <- e:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-e.stored:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Background takes the call without waiting.
func (r *Recorder) Background(call event.APICall) {
	select {
	case r.waiting <- entry{call: r.stamp(call)}:
	default:
		r.log.Warn("a read went unrecorded: too many calls wait for their record", obs.KeyRequestID, call.RequestID, "path", call.Path)
	}
}

func (r *Recorder) stamp(call event.APICall) event.APICall {
	call.At = r.clock.Now().Format(time.RFC3339Nano)
	call.Path, call.Method = cut(call.Path, maxPath), cut(call.Method, maxMethod)
	return call
}

// cut shortens s to at most n bytes, and not within a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	end := n
	for end > max(0, n-utf8.UTFMax) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// size is at least what the call takes as JSON, in which one byte can become six.
func size(c *event.APICall) int {
	const rest = 512
	return rest + 6*(len(c.Path)+len(c.Method)+len(c.Actor)+len(c.Operation)+len(c.RemoteAddress))
}

// Run stores calls until ctx ends, then those that wait.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case first := <-r.waiting:
			r.record(ctx, first)
			continue
		default:
		}
		select {
		case first := <-r.waiting:
			r.record(ctx, first)
		case <-ctx.Done():
			return nil
		}
	}
}

// record stores first and what comes with it, also if stopping has ended.
func (r *Recorder) record(stopping context.Context, first entry) {
	entries := r.gather(stopping, first)
	err := r.store(context.WithoutCancel(stopping), entries)
	if err != nil {
		r.log.Error("calls are not on record", obs.KeyCount, len(entries), obs.KeyError, err)
	}
	for _, e := range entries {
		if e.stored != nil {
			e.stored <- err
		}
	}
}

// gather returns first and what waits behind it. While nobody waits for any of them it
// waits for more.
func (r *Recorder) gather(stopping context.Context, first entry) []entry {
	entries, bytes, awaited := []entry{first}, size(&first.call), first.stored != nil
	enough := time.NewTimer(gatherFor)
	defer enough.Stop()
	for len(entries) < maxGroup && bytes < maxBytes {
		var e entry
		select {
		case e = <-r.waiting:
		default:
			if awaited {
				return entries
			}
			select {
			case e = <-r.waiting:
			case <-enough.C:
				return entries
			case <-stopping.Done():
				return entries
			}
		}
		entries, bytes = append(entries, e), bytes+size(&e.call)
		awaited = awaited || e.stored != nil
	}
	return entries
}

func (r *Recorder) store(ctx context.Context, entries []entry) error {
	m, err := r.message(entries)
	if err != nil {
		return err
	}
	row, err := m.Outbox(subject.StreamAudit)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	if err := outbox.Insert(ctx, r.pool, row); err != nil {
		return pg.Fault(err)
	}
	r.relay.Wake()
	return nil
}

func (r *Recorder) message(entries []entry) (bus.Message, error) {
	called := event.APICalled{ID: id.New("api-"), Calls: make([]event.APICall, len(entries))}
	for i, e := range entries {
		called.Calls[i] = e.call
	}
	body, err := json.Marshal(called)
	if err != nil {
		return bus.Message{}, fmt.Errorf("encode calls: %w", err)
	}
	return bus.Message{
		ID: called.ID, Type: event.Type(called), Source: "/certctl/gateway", Entity: "api/" + called.ID,
		Subject: subject.AuditRecord("api", "gateway"), Time: r.clock.Now(), Body: body,
	}, nil
}
