package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

const targetColumns = `id, name, type, agent_id, config, enabled, revision, created_at, updated_at`

func scanTarget(row pgx.CollectableRow) (t fleet.Target, err error) {
	err = row.Scan(&t.ID, &t.Name, &t.Type, &t.AgentID, &t.Config, &t.Enabled, &t.Revision, &t.CreatedAt, &t.UpdatedAt)
	return t, err
}

func oneTarget(ctx context.Context, db Querier, sql, id string) (fleet.Target, error) {
	rows, err := db.Query(ctx, sql, id)
	if err != nil {
		return fleet.Target{}, fmt.Errorf("read target: %w", err)
	}
	t, err := pgx.CollectExactlyOneRow(rows, scanTarget)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, fault.New(fault.NotFound, "there is no target %s", id)
	}
	if err != nil {
		return t, fmt.Errorf("read target: %w", err)
	}
	return t, nil
}

// Target reads a target. It is NotFound if there is none.
func Target(ctx context.Context, db Querier, id string) (fleet.Target, error) {
	return oneTarget(ctx, db, `SELECT `+targetColumns+` FROM targets WHERE id = $1`, id)
}

// LockTarget reads a target for a change that nothing new may be planned beside.
func LockTarget(ctx context.Context, tx pgx.Tx, id string) (fleet.Target, error) {
	return oneTarget(ctx, tx, `SELECT `+targetColumns+` FROM targets WHERE id = $1 FOR UPDATE`, id)
}

// TargetFilter limits a list of targets; empty fields limit nothing.
type TargetFilter struct {
	AgentID, Type, Name string
	Enabled             *bool
}

// ListTargets reads a part of the targets, newest first, and counts them all.
func ListTargets(ctx context.Context, db Querier, f TargetFilter, p Place) ([]fleet.Target, int64, error) {
	var where condition
	where.equal("agent_id", f.AgentID)
	where.equal("type", f.Type)
	where.equal("name", f.Name)
	where.is("enabled", f.Enabled)
	list := newest[fleet.Target]{what: "targets", columns: targetColumns, table: "targets", at: "created_at", scan: scanTarget}
	return list.read(ctx, db, &where, p)
}

const (
	insertTarget = `INSERT INTO targets (id, name, type, agent_id, config, enabled, revision, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	updateTarget = `UPDATE targets SET name = $2, agent_id = $3, config = $4, enabled = $5, revision = $6, updated_at = $7
WHERE id = $1`
)

// InsertTarget adds a target. It is a Conflict if the id or the name is taken. The
// caller holds the agent's row.
func InsertTarget(ctx context.Context, tx pgx.Tx, t fleet.Target) error {
	_, err := tx.Exec(ctx, insertTarget, t.ID, t.Name, t.Type, t.AgentID, t.Config, t.Enabled, t.Revision, t.CreatedAt, t.UpdatedAt)
	return targetError(err, t)
}

// UpdateTarget writes a target back.
func UpdateTarget(ctx context.Context, tx pgx.Tx, t fleet.Target) error {
	_, err := tx.Exec(ctx, updateTarget, t.ID, t.Name, t.AgentID, t.Config, t.Enabled, t.Revision, t.UpdatedAt)
	return targetError(err, t)
}

func targetError(err error, t fleet.Target) error {
	switch {
	case pg.IsUnique(err) && pg.Constraint(err) == "targets_name":
		return fault.Wrap(err, fault.Conflict, "there is a target named %q already", t.Name)
	case pg.IsUnique(err):
		return fault.Wrap(err, fault.Conflict, "there is a target %s already", t.ID)
	case err != nil:
		return fmt.Errorf("write target %s: %w", t.ID, err)
	}
	return nil
}

// DeleteTarget removes a target.
func DeleteTarget(ctx context.Context, tx pgx.Tx, id string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM targets WHERE id = $1`, id); err != nil {
		return fmt.Errorf("delete target %s: %w", id, err)
	}
	return nil
}

const usesOfTarget = `SELECT id, count(*) OVER () FROM (
	SELECT 1 AS kind, id FROM certificates WHERE target_ids @> ARRAY[$1] AND NOT archived
	UNION ALL SELECT 2, id FROM jobs WHERE target_id = $1 AND status IN ` + openStates + `
) u ORDER BY kind, id LIMIT $2`

// UsesOfTarget lists some of the certificates that are deployed to a target, then of the
// jobs that are on their way to it, and counts them all.
func UsesOfTarget(ctx context.Context, db Querier, id string, limit int) ([]string, int, error) {
	return uses(ctx, db, usesOfTarget, id, limit)
}

const places = `SELECT t.id, t.type, t.config, t.enabled, t.agent_id, a.site_id, a.status = 'Retired'
FROM targets t JOIN agents a ON a.id = t.agent_id
WHERE t.id = ANY($1) ORDER BY t.id FOR KEY SHARE OF t, a`

// Places reads the targets that something is planned for. While tx lasts none of them
// can be removed, nor their agents retired.
func Places(ctx context.Context, tx pgx.Tx, targetIDs []string) (map[string]*rollout.Place, error) {
	found, err := collect(ctx, tx, func(row pgx.CollectableRow) (*rollout.Place, error) {
		var p rollout.Place
		var config json.RawMessage
		err := row.Scan(&p.TargetID, &p.Type, &config, &p.Enabled, &p.AgentID, &p.SiteID, &p.Retired)
		p.Config = config
		return &p, err
	}, places, kept, targetIDs)
	if err != nil {
		return nil, fmt.Errorf("read %d targets: %w", len(targetIDs), err)
	}
	byID := make(map[string]*rollout.Place, len(found))
	for _, p := range found {
		byID[p.TargetID] = p
	}
	return byID, nil
}
