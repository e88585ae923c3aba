package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/search"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
)

const agentColumns = `id, site_id, public_key, name, hostname, os, architecture, ip_address, version, status,
	last_heartbeat_at, registered_at, revision`

func scanAgent(row pgx.CollectableRow) (a fleet.Agent, err error) {
	err = row.Scan(&a.ID, &a.SiteID, &a.PublicKey, &a.Name, &a.Hostname, &a.OS, &a.Architecture, &a.IPAddress,
		&a.Version, &a.Status, &a.HeardAt, &a.RegisteredAt, &a.Revision)
	return a, err
}

func oneAgent(ctx context.Context, db Querier, sql, id string) (fleet.Agent, error) {
	rows, err := db.Query(ctx, sql, id)
	if err != nil {
		return fleet.Agent{}, fmt.Errorf("read agent: %w", err)
	}
	a, err := pgx.CollectExactlyOneRow(rows, scanAgent)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, fault.New(fault.NotFound, "there is no agent %s", id)
	}
	if err != nil {
		return a, fmt.Errorf("read agent: %w", err)
	}
	return a, nil
}

// Agent reads an agent. It is NotFound if there is none.
func Agent(ctx context.Context, db Querier, id string) (fleet.Agent, error) {
	return oneAgent(ctx, db, `SELECT `+agentColumns+` FROM agents WHERE id = $1`, id)
}

// LockAgent reads an agent for a change that nothing new may be planned beside.
func LockAgent(ctx context.Context, tx pgx.Tx, id string) (fleet.Agent, error) {
	return oneAgent(ctx, tx, `SELECT `+agentColumns+` FROM agents WHERE id = $1 FOR UPDATE`, id)
}

// AgentByKey reads the agent with a public key. It is NotFound if there is none.
func AgentByKey(ctx context.Context, db Querier, publicKey string) (fleet.Agent, error) {
	return oneAgent(ctx, db, `SELECT `+agentColumns+` FROM agents WHERE public_key = $1`, publicKey)
}

const agentsByID = `SELECT ` + agentColumns + ` FROM agents WHERE id = ANY($1) ORDER BY id FOR KEY SHARE`

// Agents reads agents that something is planned for. While tx lasts none of them can
// be retired; heartbeats go on.
func Agents(ctx context.Context, tx pgx.Tx, ids []string) (map[string]fleet.Agent, error) {
	found, err := collect(ctx, tx, scanAgent, agentsByID, kept, ids)
	if err != nil {
		return nil, fmt.Errorf("read %d agents: %w", len(ids), err)
	}
	agents := make(map[string]fleet.Agent, len(found))
	for _, a := range found {
		agents[a.ID] = a
	}
	return agents, nil
}

// AgentFilter limits a list of agents; empty fields limit nothing.
type AgentFilter struct {
	Status, SiteID, Version, Name string
	// OS is compared without regard to case.
	OS     string
	Search search.Query
}

// ListAgents reads a part of the agents, newest first, and counts them all.
func ListAgents(ctx context.Context, db Querier, f AgentFilter, p Place) ([]fleet.Agent, int64, error) {
	var where condition
	where.equal("status", f.Status)
	where.equal("site_id", f.SiteID)
	where.equal("version", f.Version)
	where.equal("name", f.Name)
	if f.OS != "" {
		where.add("lower(os) = lower(?)", f.OS)
	}
	where.search(f.Search)
	list := newest[fleet.Agent]{what: "agents", columns: agentColumns, table: "agents", at: "registered_at", scan: scanAgent}
	return list.read(ctx, db, &where, p)
}

const insertAgent = `INSERT INTO agents (id, site_id, public_key, name, hostname, os, architecture, ip_address, version, status,
	last_heartbeat_at, registered_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

// InsertAgent adds an agent.
func InsertAgent(ctx context.Context, tx pgx.Tx, a fleet.Agent) error {
	_, err := tx.Exec(ctx, insertAgent, a.ID, a.SiteID, a.PublicKey, a.Name, a.Hostname, a.OS, a.Architecture, a.IPAddress,
		a.Version, a.Status, a.HeardAt, a.RegisteredAt)
	if err != nil {
		return fmt.Errorf("insert agent %s: %w", a.ID, err)
	}
	return nil
}

// Locks are taken by id, so that two bundles cannot wait for each other. There is but
// one join of the bundle with the table: a plan that was made for bundles of any size
// would join two sets in memory row by row.
const heartbeats = `WITH was AS (
	SELECT n.*, a.status FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
		AS n (id, name, hostname, os, architecture, ip_address, version)
	JOIN agents a USING (id)
	WHERE a.site_id = $1 AND a.status <> 'Retired'
	ORDER BY a.id FOR NO KEY UPDATE OF a
), now AS (
	UPDATE agents a SET
		last_heartbeat_at = greatest(a.last_heartbeat_at, $9),
		status = CASE WHEN was.status = 'Offline' THEN 'Online' ELSE was.status END,
		revision = a.revision + (was.status = 'Offline')::int,
		name = coalesce(nullif(was.name, ''), a.name),
		hostname = coalesce(nullif(was.hostname, ''), a.hostname),
		os = coalesce(nullif(was.os, ''), a.os),
		architecture = coalesce(nullif(was.architecture, ''), a.architecture),
		ip_address = coalesce(nullif(was.ip_address, ''), a.ip_address),
		version = coalesce(nullif(was.version, ''), a.version)
	FROM was
	WHERE a.id = was.id
	RETURNING a.id, a.site_id, a.revision, was.status = 'Offline' AS back
)
SELECT id, site_id, revision FROM now WHERE back`

// Turned is an agent that went from Online to Offline, or back.
type Turned struct {
	AgentID  string
	SiteID   string
	Revision int64
}

// Heartbeats notes, in one statement, that agents of a site were heard at a time, and
// what they told of themselves; an empty field means no change. Each agent comes at
// most once. Agents that are retired, or of another site, are passed over. It returns
// those that had been Offline.
func Heartbeats(ctx context.Context, tx pgx.Tx, siteID string, beats []command.Heartbeat, at time.Time) ([]Turned, error) {
	back, err := collect(
		ctx, tx, pgx.RowToStructByPos[Turned], heartbeats, siteID,
		column(beats, func(h command.Heartbeat) string { return h.AgentID }),
		column(beats, func(h command.Heartbeat) string { return h.Name }),
		column(beats, func(h command.Heartbeat) string { return h.Hostname }),
		column(beats, func(h command.Heartbeat) string { return h.OS }),
		column(beats, func(h command.Heartbeat) string { return h.Architecture }),
		column(beats, func(h command.Heartbeat) string { return h.IPAddress }),
		column(beats, func(h command.Heartbeat) string { return h.Version }),
		at,
	)
	if err != nil {
		return nil, fmt.Errorf("note %d heartbeats of %s: %w", len(beats), siteID, err)
	}
	return back, nil
}

const markSilent = `WITH silent AS (
	SELECT id FROM agents WHERE status = 'Online' AND last_heartbeat_at < $1
	ORDER BY last_heartbeat_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE agents a SET status = 'Offline', revision = a.revision + 1
FROM silent WHERE a.id = silent.id
RETURNING a.id, a.site_id, a.revision`

// MarkSilent turns agents Offline that were last heard before a time, and returns
// them.
func MarkSilent(ctx context.Context, tx pgx.Tx, before time.Time, limit int) ([]Turned, error) {
	gone, err := collect(ctx, tx, pgx.RowToStructByPos[Turned], markSilent, before, limit)
	if err != nil {
		return nil, fmt.Errorf("mark silent agents: %w", err)
	}
	return gone, nil
}

// NextSilence is when the agent that was heard longest ago was heard; zero if none is
// Online.
func NextSilence(ctx context.Context, db Querier) (time.Time, error) {
	return next(ctx, db, "the next silence", `SELECT min(last_heartbeat_at) FROM agents WHERE status = 'Online'`)
}
