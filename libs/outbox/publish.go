package outbox

import (
	"context"
	"sync"

	"github.com/certctl/certctl/libs/fault"
)

// refusalsInARow is how many rows of a batch are refused, none having been taken, until the fault is thought to be the
// stream's. Those rows wait longer than the others, so the next batch begins behind them.
const refusalsInARow = 8

// publish publishes rows, stream by stream and all streams at once, and returns the ids of those that were published.
func (r *Relay) publish(ctx context.Context, rows []row) []int64 {
	if len(rows) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	groups := byStream(rows)
	if len(groups) == 1 {
		return r.publishStream(ctx, rows)
	}
	var (
		wait sync.WaitGroup
		mu   sync.Mutex // guards sent
		sent []int64
	)
	for _, group := range groups {
		wait.Go(func() {
			ids := r.publishStream(ctx, group)
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, ids...)
		})
	}
	wait.Wait()
	return sent
}

func byStream(rows []row) map[string][]row {
	groups := make(map[string][]row)
	for _, row := range rows {
		groups[row.Stream] = append(groups[row.Stream], row)
	}
	return groups
}

// publishStream publishes the rows of one stream together, and if one of them is refused each for itself. A row that
// has been refused before stands for itself from the start, so that it does not spoil the batch of the others.
func (r *Relay) publishStream(ctx context.Context, rows []row) []int64 {
	stream := rows[0].Stream
	fresh, suspect := r.trouble.split(rows)
	var sent []int64
	if len(fresh) > 0 {
		switch err := r.Publish(ctx, messagesOf(fresh)); {
		case err == nil:
			sent = idsOf(fresh)
			r.published(stream, sent)
		case isAway(ctx, err):
			r.away(stream, err)
			return nil
		case len(fresh) == 1:
			r.refused(fresh[0], err)
		default:
			suspect = append(suspect, fresh...)
		}
	}
	return append(sent, r.publishSingly(ctx, stream, suspect)...)
}

func (r *Relay) publishSingly(ctx context.Context, stream string, rows []row) (sent []int64) {
	refusals := 0
	for _, one := range rows {
		err := r.Publish(ctx, []Message{one.Message})
		if err == nil {
			sent = append(sent, one.id)
			r.published(stream, []int64{one.id})
			continue
		}
		if isAway(ctx, err) {
			r.away(stream, err)
			return sent
		}
		r.refused(one, err)
		if refusals++; refusals == refusalsInARow && len(sent) == 0 {
			r.away(stream, err)
			return nil
		}
	}
	return sent
}

// isAway reports whether err is the bus's state and not about the messages.
func isAway(ctx context.Context, err error) bool {
	return ctx.Err() != nil || fault.CodeOf(err) == fault.Unavailable
}

func (r *Relay) published(stream string, ids []int64) {
	r.trouble.over(stream, ids)
	r.meters.published.WithLabelValues(stream).Add(float64(len(ids)))
}

func (r *Relay) away(stream string, err error) {
	attempt := r.trouble.streamAway(stream)
	r.meters.away.WithLabelValues(stream).Inc()
	if attempt == 1 {
		r.Log.Warn("stream takes no messages; trying again", "stream", stream, "error", err)
	}
}

func (r *Relay) refused(one row, err error) {
	attempt, delay := r.trouble.rowRefused(one.id)
	r.meters.refused.WithLabelValues(one.Stream).Inc()
	r.Log.Error("message is refused; others go ahead of it",
		"msg_id", one.ID, "stream", one.Stream, "subject", one.Subject, "attempt", attempt, "again_in", delay, "error", err)
}

func messagesOf(rows []row) []Message {
	messages := make([]Message, len(rows))
	for i, row := range rows {
		messages[i] = row.Message
	}
	return messages
}

func idsOf(rows []row) []int64 {
	ids := make([]int64, len(rows))
	for i, row := range rows {
		ids[i] = row.id
	}
	return ids
}
