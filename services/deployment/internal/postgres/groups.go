package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
)

const groupColumns = `id, name, description, match_os, match_architecture, match_ip_cidr, match_version, enabled,
	revision, created_at, updated_at`

func scanGroup(row pgx.CollectableRow) (g fleet.Group, err error) {
	err = row.Scan(&g.ID, &g.Name, &g.Description, &g.MatchOS, &g.MatchArchitecture, &g.MatchIPCIDR, &g.MatchVersion,
		&g.Enabled, &g.Revision, &g.CreatedAt, &g.UpdatedAt)
	return g, err
}

func oneGroup(ctx context.Context, db Querier, sql, id string) (fleet.Group, error) {
	rows, err := db.Query(ctx, sql, id)
	if err != nil {
		return fleet.Group{}, fmt.Errorf("read agent group: %w", err)
	}
	g, err := pgx.CollectExactlyOneRow(rows, scanGroup)
	if errors.Is(err, pgx.ErrNoRows) {
		return g, fault.New(fault.NotFound, "there is no agent group %s", id)
	}
	if err != nil {
		return g, fmt.Errorf("read agent group: %w", err)
	}
	return g, nil
}

// Group reads an agent group. It is NotFound if there is none.
func Group(ctx context.Context, db Querier, id string) (fleet.Group, error) {
	return oneGroup(ctx, db, `SELECT `+groupColumns+` FROM agent_groups WHERE id = $1`, id)
}

// LockGroup reads an agent group for a change.
func LockGroup(ctx context.Context, tx pgx.Tx, id string) (fleet.Group, error) {
	return oneGroup(ctx, tx, `SELECT `+groupColumns+` FROM agent_groups WHERE id = $1 FOR UPDATE`, id)
}

// GroupFilter limits a list of agent groups; empty fields limit nothing.
type GroupFilter struct {
	Name    string
	Enabled *bool
}

// ListGroups reads a part of the agent groups, newest first, and counts them all.
func ListGroups(ctx context.Context, db Querier, f GroupFilter, p Place) ([]fleet.Group, int64, error) {
	var where condition
	where.equal("name", f.Name)
	where.is("enabled", f.Enabled)
	list := newest[fleet.Group]{what: "agent groups", columns: groupColumns, table: "agent_groups", at: "created_at", scan: scanGroup}
	return list.read(ctx, db, &where, p)
}

const (
	insertGroup = `INSERT INTO agent_groups (` + groupColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
	updateGroup = `UPDATE agent_groups SET name = $2, description = $3, match_os = $4, match_architecture = $5, match_ip_cidr = $6,
	match_version = $7, enabled = $8, revision = $9, updated_at = $10
WHERE id = $1`
)

// InsertGroup adds an agent group. It is a Conflict if the id or the name is taken.
func InsertGroup(ctx context.Context, tx pgx.Tx, g fleet.Group) error {
	_, err := tx.Exec(ctx, insertGroup, g.ID, g.Name, g.Description, g.MatchOS, g.MatchArchitecture, g.MatchIPCIDR,
		g.MatchVersion, g.Enabled, g.Revision, g.CreatedAt, g.UpdatedAt)
	return groupError(err, g)
}

// UpdateGroup writes an agent group back.
func UpdateGroup(ctx context.Context, tx pgx.Tx, g fleet.Group) error {
	_, err := tx.Exec(ctx, updateGroup, g.ID, g.Name, g.Description, g.MatchOS, g.MatchArchitecture, g.MatchIPCIDR,
		g.MatchVersion, g.Enabled, g.Revision, g.UpdatedAt)
	return groupError(err, g)
}

func groupError(err error, g fleet.Group) error {
	switch {
	case pg.IsUnique(err) && pg.Constraint(err) == "agent_groups_name":
		return fault.Wrap(err, fault.Conflict, "there is an agent group named %q already", g.Name)
	case pg.IsUnique(err):
		return fault.Wrap(err, fault.Conflict, "there is an agent group %s already", g.ID)
	case err != nil:
		return fmt.Errorf("write agent group %s: %w", g.ID, err)
	}
	return nil
}

// DeleteGroup removes an agent group with all that was said of its members.
func DeleteGroup(ctx context.Context, tx pgx.Tx, id string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM agent_groups WHERE id = $1`, id); err != nil {
		return fmt.Errorf("delete agent group %s: %w", id, err)
	}
	return nil
}

const (
	setMember = `WITH was AS (
	SELECT membership_type FROM agent_group_members WHERE group_id = $1 AND agent_id = $2
), now AS (
	INSERT INTO agent_group_members (group_id, agent_id, membership_type, created_at) VALUES ($1, $2, $3, $4)
	ON CONFLICT (group_id, agent_id) DO UPDATE SET membership_type = excluded.membership_type
)
SELECT coalesce((SELECT membership_type FROM was), '')`
	removeMember = `DELETE FROM agent_group_members WHERE group_id = $1 AND agent_id = $2 RETURNING membership_type`
)

// SetMember says by hand whether an agent belongs to a group, and returns what was said
// before. The caller holds the rows of both.
func SetMember(ctx context.Context, tx pgx.Tx, groupID, agentID string, m fleet.Membership, now time.Time) (fleet.Membership, error) {
	var before fleet.Membership
	if err := tx.QueryRow(ctx, setMember, groupID, agentID, m, now).Scan(&before); err != nil {
		return "", fmt.Errorf("say that agent %s is %sd by group %s: %w", agentID, m, groupID, err)
	}
	return before, nil
}

// RemoveMember takes back what was said by hand, and returns it; it is empty if nothing
// was.
func RemoveMember(ctx context.Context, tx pgx.Tx, groupID, agentID string) (fleet.Membership, error) {
	var before fleet.Membership
	err := tx.QueryRow(ctx, removeMember, groupID, agentID).Scan(&before)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("take agent %s out of group %s: %w", agentID, groupID, err)
	}
	return before, nil
}

// Candidate is an agent that may belong to a group, with what was said of it by hand.
type Candidate struct {
	Agent  fleet.Agent
	ByHand fleet.Membership
}

// Whoever meets the criteria is among these: address() and lower() take in all that the
// rule does. What the rule compares by order (the version) is left to it.
const groupCandidates = `SELECT ` + agentColumns + `, coalesce(m.membership_type, '')
FROM agents a LEFT JOIN agent_group_members m ON m.group_id = $1 AND m.agent_id = a.id
WHERE a.status <> 'Retired' AND (m.membership_type IS NOT NULL
	OR $6 AND ($2 = '' OR lower(a.os) = lower($2)) AND ($3 = '' OR lower(a.architecture) = lower($3))
		AND ($4 = '' OR address(a.ip_address) <<= nullif($4, '')::cidr) AND ($5 = '' OR a.version <> ''))
ORDER BY a.registered_at DESC, a.id DESC`

// GroupCandidates reads the agents of which something was said by hand for a group, and
// those that may meet its criteria, newest first.
func GroupCandidates(ctx context.Context, db Querier, g fleet.Group) ([]Candidate, error) {
	found, err := collect(ctx, db, func(row pgx.CollectableRow) (c Candidate, err error) {
		a := &c.Agent
		err = row.Scan(&a.ID, &a.SiteID, &a.PublicKey, &a.Name, &a.Hostname, &a.OS, &a.Architecture, &a.IPAddress,
			&a.Version, &a.Status, &a.HeardAt, &a.RegisteredAt, &a.Revision, &c.ByHand)
		return c, err
	}, groupCandidates, g.ID, g.MatchOS, g.MatchArchitecture, g.MatchIPCIDR, g.MatchVersion, g.Criteria())
	if err != nil {
		return nil, fmt.Errorf("find agents of group %s: %w", g.ID, err)
	}
	return found, nil
}

// Claim is a group that an agent may belong to, with what was said of the two by hand.
type Claim struct {
	Group  fleet.Group
	ByHand fleet.Membership
}

const groupClaims = `SELECT ` + groupColumns + `, coalesce(m.membership_type, '')
FROM agent_groups LEFT JOIN (SELECT group_id, membership_type FROM agent_group_members WHERE agent_id = $1) m ON m.group_id = id
WHERE enabled ORDER BY created_at DESC, id DESC`

// GroupClaims reads all groups that are enabled, newest first, as they concern an agent.
func GroupClaims(ctx context.Context, db Querier, agentID string) ([]Claim, error) {
	found, err := collect(ctx, db, func(row pgx.CollectableRow) (c Claim, err error) {
		g := &c.Group
		err = row.Scan(&g.ID, &g.Name, &g.Description, &g.MatchOS, &g.MatchArchitecture, &g.MatchIPCIDR, &g.MatchVersion,
			&g.Enabled, &g.Revision, &g.CreatedAt, &g.UpdatedAt, &c.ByHand)
		return c, err
	}, groupClaims, agentID)
	if err != nil {
		return nil, fmt.Errorf("find groups of agent %s: %w", agentID, err)
	}
	return found, nil
}
