package apikey

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/pg"
)

// noteEvery is how often the last uses of keys are written, and how far apart two that are
// written of one key lie.
const noteEvery = time.Minute

// Share has the replicas of the gateway tell each other of changes, until the connection
// ends. One that is not told finds out when it looks the key up again.
func (s *Store) Share(nc *nats.Conn, log *slog.Logger) error {
	told := subject.Replicas("gateway", "apikeys")
	if _, err := nc.Subscribe(told, func(m *nats.Msg) { s.forget(string(m.Data)) }); err != nil {
		return fmt.Errorf("listen for changes of API keys: %w", err)
	}
	s.tell = func(id string) {
		if err := nc.Publish(told, []byte(id)); err != nil {
			log.Warn("the other gateways are not told that an API key has changed", "key_id", id, obs.KeyError, err)
		}
	}
	return nil
}

func (s *Store) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	maps.DeleteFunc(s.cache, func(_ [32]byte, e entry) bool { return e.principal.ID == id })
}

// Run writes the last uses of keys until ctx ends, and then what is left.
func (s *Store) Run(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(noteEvery)
	defer tick.Stop()
	for {
		var ended bool
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteEvery/6)
		if err := s.WriteUses(writing); err != nil {
			log.Warn("the last uses of API keys are not written yet", obs.KeyError, err)
		}
		cancel()
		if ended {
			return
		}
	}
}

const writeUses = `UPDATE api_keys k SET last_used_at = u.at
FROM unnest($1::text[], $2::timestamptz[]) AS u(id, at)
WHERE k.id = u.id AND (k.last_used_at IS NULL OR k.last_used_at <= u.at - $3::interval)`

// WriteUses writes when keys were used last, all in one statement. What fails is written
// the next time.
func (s *Store) WriteUses(ctx context.Context) error {
	s.mu.Lock()
	used := s.used
	s.used = map[string]time.Time{}
	s.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	ids, times := make([]string, 0, len(used)), make([]time.Time, 0, len(used))
	for id, at := range used {
		ids, times = append(ids, id), append(times, at)
	}
	_, err := s.pool.Exec(ctx, writeUses, ids, times, noteEvery)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, at := range used {
		if s.used[id].Before(at) {
			s.used[id] = at
		}
	}
	return fmt.Errorf("write the last uses of %d API keys: %w", len(ids), pg.Fault(err))
}
