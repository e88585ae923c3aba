package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/policy"
	"github.com/certctl/certctl/services/issuer/internal/regulation"
)

// PolicyRules returns a page of the policy rules, in the order of their creation.
func (s *Store) PolicyRules(ctx context.Context, groupID *string, p Page) (List[*policy.Rule], error) {
	var c conditions
	c.equal("r.agent_group_id", groupID)
	return listPage(ctx, s, listing[*policy.Rule]{
		columns: ruleColumns, from: "policy_rules r", conditions: c, sort: "r.created_at", id: "r.id", page: p, scan: scanRule,
		place: func(row **policy.Rule) page.Cursor { return page.At((*row).CreatedAt, (*row).ID) },
	})
}

// PolicyRule implements [regulation.Store].
func (s *Store) PolicyRule(ctx context.Context, id string) (*policy.Rule, error) {
	found, err := readRules(ctx, s, `SELECT `+ruleColumns+` FROM policy_rules r WHERE r.id = $1`, scanRule, id)
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, fault.New(fault.NotFound, "there is no policy %s", id)
	default:
		return found[0], nil
	}
}

var addRuleSQL = `WITH rule AS (
	INSERT INTO policy_rules (id, name, type, severity, config, agent_group_id, enabled, created_at, updated_at)
	VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8, $8)
	ON CONFLICT (id) DO NOTHING
	RETURNING id, version
), event AS (
	` + insertEvents("rule", "id", 9) + `
)
SELECT version FROM rule`

// AddRule implements [regulation.Store].
func (s *Store) AddRule(ctx context.Context, r *policy.Rule, f issuance.Fact) error {
	written, err := s.writeRule(ctx, addRuleSQL, r, f)
	if err == nil && !written {
		err = fault.New(fault.Conflict, "a policy with the id %s exists already", r.ID)
	}
	return err
}

var changeRuleSQL = `WITH rule AS (
	UPDATE policy_rules SET name = $2, type = $3, severity = $4, config = $5::jsonb, agent_group_id = $6, enabled = $7,
		updated_at = $8, version = version + 1
	WHERE id = $1 AND version = $9
	RETURNING id, version
), event AS (
	` + insertEvents("rule", "id", 10) + `
)
SELECT version FROM rule`

// ChangeRule implements [regulation.Store].
func (s *Store) ChangeRule(ctx context.Context, r *policy.Rule, seen int64, f issuance.Fact) (bool, error) {
	return s.writeRule(ctx, changeRuleSQL, r, f, seen)
}

func (s *Store) writeRule(ctx context.Context, sql string, r *policy.Rule, f issuance.Fact, more ...any) (bool, error) {
	config, err := json.Marshal(r.Config)
	if err != nil {
		return false, fmt.Errorf("encode the configuration of policy %s: %w", r.ID, err)
	}
	args := append([]any{
		r.ID, r.Name, string(r.Type), string(r.Severity), string(config), r.AgentGroupID, r.Enabled, f.At,
	}, more...)
	revision, err := s.writeRecord(ctx, sql, r.ID, f, args)
	if revision > 0 {
		r.Revision = revision
	}
	return revision > 0, err
}

var removeRuleSQL = `WITH rule AS (
	DELETE FROM policy_rules WHERE id = $1 RETURNING id, version + 1 AS version
), event AS (
	` + insertEvents("rule", "id", 2) + `
)
SELECT version FROM rule`

// RemoveRule implements [regulation.Store].
func (s *Store) RemoveRule(ctx context.Context, id string, f issuance.Fact) error {
	revision, err := s.writeRecord(ctx, removeRuleSQL, id, f, []any{id})
	if err == nil && revision == 0 {
		err = fault.New(fault.NotFound, "there is no policy %s", id)
	}
	return err
}

const inventorySQL = `SELECT c.id, c.name, c.common_name, c.sans, c.environment, c.owner_id, c.team_id, c.issuer_id,
	c.certificate_profile_id, c.renewal_policy_id, c.tags,
	CASE WHEN rp.renewal_window_percent > 0 THEN 90 * rp.renewal_window_percent / 100 ELSE rp.renewal_window_days END, COALESCE((
		SELECT ta.agent_id FROM certificate_targets ct JOIN target_agents ta USING (target_id)
		WHERE ct.certificate_id = c.id AND NOT ta.deleted ORDER BY ct.position LIMIT 1), '')
FROM certificates c JOIN renewal_policies rp ON rp.id = c.renewal_policy_id
WHERE c.id > $1 AND c.status NOT IN ('Archived', 'Revoked')%s
ORDER BY c.id LIMIT $2`

// Inventory implements [regulation.Store].
func (s *Store) Inventory(ctx context.Context, scope authn.Scope, after string, limit int) ([]regulation.Subject, error) {
	c := conditions{args: []any{after, limit}}
	c.scope(scope)
	rows, err := s.pool.Query(ctx, fmt.Sprintf(inventorySQL, c.and()), c.args...)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("read the inventory: %w", err))
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r regulation.Subject, err error) {
		var tags []byte
		f := &r.Facts
		err = row.Scan(&f.CertificateID, &f.Name, &f.CommonName, &f.SANs, &f.Environment, &f.OwnerID, &f.TeamID, &f.IssuerID,
			&f.ProfileID, &f.RenewalPolicyID, &tags, &f.RenewalWindowDays, &r.AgentID)
		if err != nil {
			return r, err
		}
		f.Tags, err = decodeTags(tags)
		return r, err
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, pg.Fault(fmt.Errorf("read the inventory: %w", err))
	}
	return out, nil
}
