package sweep

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

const silenceBatch = 500

// Silence turns agents Offline that missed their heartbeats. Who could not hear has no
// business to call anybody silent: after a start, and after each loss of the
// connection over which heartbeats come, nobody is judged until all had their chance.
type Silence struct {
	DB    *pgxpool.Pool
	NC    *nats.Conn
	Clock clock.Clock
	// Interval is that of heartbeats.
	Interval time.Duration
	// Committed is called after a commit that left something in the outbox.
	Committed func()

	since      time.Time
	reconnects uint64
}

func (s *Silence) patience() time.Duration { return fleet.MissedHeartbeats * s.Interval }

// hearing reports whether this process has been able to hear for long enough.
func (s *Silence) hearing(now time.Time) bool {
	reconnects := s.NC.Stats().Reconnects
	switch {
	case !s.NC.IsConnected():
		s.since = time.Time{}
	case s.since.IsZero() || reconnects != s.reconnects:
		s.since, s.reconnects = now, reconnects
	}
	return !s.since.IsZero() && now.Sub(s.since) >= s.patience()
}

// Do turns some agents Offline. It is not safe for concurrent use.
func (s *Silence) Do(ctx context.Context) (n int, err error) {
	now := s.Clock.Now()
	if !s.hearing(now) {
		return 0, nil
	}
	err = pg.InTx(ctx, s.DB, func(tx pgx.Tx) error {
		gone, err := postgres.MarkSilent(ctx, tx, now.Add(-s.patience()), silenceBatch)
		n = len(gone)
		if err != nil || n == 0 {
			return err
		}
		messages := make([]outbox.Message, n)
		for i, a := range gone {
			offline := event.AgentOffline{AgentID: a.AgentID, SiteID: a.SiteID}
			if messages[i], err = outgoing.Event(offline, a.Revision, now, outgoing.Cause{}); err != nil {
				return err
			}
		}
		return outbox.Insert(ctx, tx, messages...)
	})
	if err == nil && n > 0 {
		s.Committed()
	}
	return n, err
}

// Next is when the next agent will have been silent for too long.
func (s *Silence) Next(ctx context.Context) (time.Time, error) {
	heard, err := postgres.NextSilence(ctx, s.DB)
	if err != nil || heard.IsZero() {
		return time.Time{}, err
	}
	due := heard.Add(s.patience() + time.Millisecond)
	if able := s.since.Add(s.patience()); due.Before(able) {
		due = able
	}
	if now := s.Clock.Now(); s.since.IsZero() || due.Before(now) {
		due = now.Add(s.Interval / 4)
	}
	return due, nil
}
