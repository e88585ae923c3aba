package agentrpc

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/outbox"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/outgoing"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// maxBeats is far above what one leaf serves.
const maxBeats = 10_000

// Noted is the answer to heartbeats.
type noted struct{}

func (s *Server) heartbeats(ctx context.Context, siteID string, data []byte) (any, error) {
	var bundle command.Heartbeats
	if err := decode(data, &bundle); err != nil {
		return nil, err
	}
	if len(bundle.Heartbeats) > maxBeats {
		return nil, fault.New(fault.TooLarge, "a bundle has at most %d heartbeats", maxBeats)
	}
	return noted{}, s.note(ctx, siteID, bundle.Heartbeats)
}

func (s *Server) heartbeat(ctx context.Context, who subject.Agent, data []byte) (any, error) {
	var beat command.Heartbeat
	if err := decode(data, &beat); err != nil {
		return nil, err
	}
	beat.AgentID = who.Agent
	return noted{}, s.note(ctx, who.Site, []command.Heartbeat{beat})
}

// note stores heartbeats under the time at which they came in: hosts' clocks differ,
// and an agent whose clock is wrong is not therefore away.
func (s *Server) note(ctx context.Context, siteID string, beats []command.Heartbeat) error {
	latest := make(map[string]int, len(beats))
	cleaned := make([]command.Heartbeat, 0, len(beats))
	for _, h := range beats {
		if !subject.Token(h.AgentID) {
			continue
		}
		h = fleet.Clean(h)
		if i, seen := latest[h.AgentID]; seen {
			cleaned[i] = h
			continue
		}
		latest[h.AgentID] = len(cleaned)
		cleaned = append(cleaned, h)
	}
	if len(cleaned) == 0 {
		return nil
	}
	var back int
	err := pg.InTx(ctx, s.DB, func(tx pgx.Tx) error {
		now := s.Clock.Now()
		turned, err := postgres.Heartbeats(ctx, tx, siteID, cleaned, now)
		if err != nil {
			return err
		}
		if back = len(turned); back == 0 {
			return nil
		}
		messages := make([]outbox.Message, back)
		ids := make([]string, back)
		for i, t := range turned {
			ids[i] = t.AgentID
			online := event.AgentOnline{AgentID: t.AgentID, SiteID: t.SiteID}
			if messages[i], err = outgoing.Event(online, t.Revision, now, outgoing.Cause{}); err != nil {
				return err
			}
		}
		if err := postgres.HurryOrders(ctx, tx, ids, now.Add(s.OrderDeadline)); err != nil {
			return err
		}
		return outbox.Insert(ctx, tx, messages...)
	})
	if err == nil && back > 0 {
		s.Committed()
	}
	return err
}
