package outbox

import (
	"sync"
	"time"

	"github.com/certctl/certctl/libs/retry"
)

// trouble remembers which streams and which rows could not be published, and until when to leave them alone. It is
// kept in memory: another relay, or this one after a restart, finds out for itself.
type trouble struct {
	mu      sync.Mutex // guards both
	streams map[string]setback
	rows    map[int64]setback
}

type setback struct {
	attempt int
	until   time.Time
}

var (
	streamRetry = retry.Policy{Base: 100 * time.Millisecond, Cap: 2 * time.Second, Jitter: 0.3}
	rowRetry    = retry.Policy{Base: time.Second, Cap: time.Minute, Jitter: 0.3}
)

// A row that has vanished, because somebody has deleted it or another relay has sent it, is forgotten after this.
const forgetAfter = 10 * time.Minute

func newTrouble() *trouble {
	return &trouble{streams: make(map[string]setback), rows: make(map[int64]setback)}
}

// avoid returns the streams and rows to leave alone at now. Neither is nil.
func (t *trouble) avoid(now time.Time) (streams []string, ids []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	streams, ids = []string{}, []int64{}
	for stream, s := range t.streams {
		if s.until.After(now) {
			streams = append(streams, stream)
		}
	}
	for id, s := range t.rows {
		if s.until.After(now) {
			ids = append(ids, id)
		} else if now.Sub(s.until) > forgetAfter {
			delete(t.rows, id)
		}
	}
	return streams, ids
}

// split parts rows into those that have never been refused and those that have.
func (t *trouble) split(rows []row) (fresh, suspect []row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return rows, nil
	}
	for _, row := range rows {
		if _, known := t.rows[row.id]; known {
			suspect = append(suspect, row)
		} else {
			fresh = append(fresh, row)
		}
	}
	return fresh, suspect
}

// over forgets the trouble of a stream that has taken rows.
func (t *trouble) over(stream string, ids []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.streams, stream)
	if len(t.rows) == 0 {
		return
	}
	for _, id := range ids {
		delete(t.rows, id)
	}
}

func (t *trouble) streamAway(stream string) (attempt int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	attempt = t.streams[stream].attempt + 1
	t.streams[stream] = setback{attempt, time.Now().Add(streamRetry.Delay(attempt, nil))}
	return attempt
}

func (t *trouble) rowRefused(id int64) (attempt int, delay time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	attempt = t.rows[id].attempt + 1
	delay = rowRetry.Delay(attempt, nil)
	t.rows[id] = setback{attempt, time.Now().Add(delay)}
	return attempt, delay
}
