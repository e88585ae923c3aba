package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/record"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

const renewalPolicyColumns = `p.id, p.name, p.auto_renew, p.renewal_window_days, p.renewal_window_percent, p.max_retries,
	p.retry_interval_seconds, p.retry_max_interval_seconds, p.retry_jitter_percent, p.alert_thresholds_days,
	p.approval_required, p.approval_expires_after_hours, p.maintenance_windows, p.agent_group_id, p.revision, p.created_at, p.updated_at,
	p.fallback_issuer_ids, p.fallback_after_minutes`

// storedWindow is a maintenance window as its column spells it.
type storedWindow struct {
	Weekdays []string `json:"weekdays"`
	Start    string   `json:"start"`
	End      string   `json:"end"`
	TimeZone string   `json:"time_zone"`
}

func scanRenewalPolicy(row pgx.CollectableRow) (renewal.Policy, error) {
	var p renewal.Policy
	var windows []byte
	var interval, longest, hours, patience int
	err := row.Scan(&p.ID, &p.Name, &p.AutoRenew, &p.WindowDays, &p.WindowPercent, &p.MaxRetries, &interval, &longest, &p.RetryJitterPercent,
		&p.ThresholdDays, &p.ApprovalRequired, &hours, &windows, &p.AgentGroupID, &p.Revision, &p.CreatedAt, &p.UpdatedAt,
		&p.Fallbacks, &patience)
	if err != nil {
		return p, err
	}
	p.RetryInterval, p.RetryMaxInterval = time.Duration(interval)*time.Second, time.Duration(longest)*time.Second
	p.ApprovalExpiresAfter, p.FallbackAfter = time.Duration(hours)*time.Hour, time.Duration(patience)*time.Minute
	if string(windows) == "[]" {
		return p, nil
	}
	var stored []storedWindow
	if err := json.Unmarshal(windows, &stored); err != nil {
		return p, fmt.Errorf("maintenance windows of %s: %w", p.ID, err)
	}
	for _, s := range stored {
		w, bad := renewal.ParseWindow(s.Weekdays, s.Start, s.End, s.TimeZone)
		if len(bad) > 0 {
			return p, fmt.Errorf("maintenance windows of %s: %w", p.ID, fault.InvalidFields(bad...))
		}
		p.Windows = append(p.Windows, w)
	}
	return p, nil
}

func encodeWindows(windows []renewal.Window) (string, error) {
	stored := make([]storedWindow, len(windows))
	for i, w := range windows {
		stored[i].Weekdays, stored[i].Start, stored[i].End, stored[i].TimeZone = w.Names()
	}
	b, err := json.Marshal(stored)
	if err != nil {
		return "", fmt.Errorf("encode maintenance windows: %w", err)
	}
	return string(b), nil
}

// RenewalPolicy implements [issuance.RenewalPolicies].
func (s *Store) RenewalPolicy(ctx context.Context, id string) (renewal.Policy, error) {
	found, err := renewalPolicies(ctx, s.pool, []string{id})
	if err != nil {
		return renewal.Policy{}, pg.Fault(err)
	}
	p, ok := found[id]
	if !ok {
		return p, fault.New(fault.NotFound, "there is no renewal policy %s", id)
	}
	return p, nil
}

func renewalPolicies(ctx context.Context, q querier, ids []string) (map[string]renewal.Policy, error) {
	rows, err := q.Query(ctx, `SELECT `+renewalPolicyColumns+` FROM renewal_policies p WHERE p.id = ANY($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("read renewal policies: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanRenewalPolicy)
	if err != nil {
		return nil, fmt.Errorf("read renewal policies: %w", err)
	}
	found := make(map[string]renewal.Policy, len(list))
	for _, p := range list {
		found[p.ID] = p
	}
	return found, nil
}

// RenewalPolicies returns a page of the renewal policies, in the order of their creation.
func (s *Store) RenewalPolicies(ctx context.Context, groupID *string, p Page) (List[renewal.Policy], error) {
	var c conditions
	c.equal("p.agent_group_id", groupID)
	return listPage(ctx, s, listing[renewal.Policy]{
		columns: renewalPolicyColumns, from: "renewal_policies p", conditions: c, sort: "p.created_at", id: "p.id", page: p, scan: scanRenewalPolicy,
		place: func(row *renewal.Policy) page.Cursor { return page.At(row.CreatedAt, row.ID) },
	})
}

// renewalPolicyArgs are the parameters 1 to 18 of the statements that write a policy.
func renewalPolicyArgs(p *renewal.Policy) ([]any, error) {
	windows, err := encodeWindows(p.Windows)
	if err != nil {
		return nil, err
	}
	thresholds := append([]int{}, p.ThresholdDays...)
	return []any{
		p.ID, p.Name, p.AutoRenew, p.WindowDays, p.WindowPercent, p.MaxRetries,
		int(p.RetryInterval / time.Second), int(p.RetryMaxInterval / time.Second), p.RetryJitterPercent, thresholds,
		p.ApprovalRequired, int(p.ApprovalExpiresAfter / time.Hour), windows, p.AgentGroupID, p.Revision, p.UpdatedAt,
		append([]string{}, p.Fallbacks...), int(p.FallbackAfter / time.Minute),
	}, nil
}

var createRenewalPolicySQL = `WITH policy AS (
	INSERT INTO renewal_policies (id, name, auto_renew, renewal_window_days, renewal_window_percent, max_retries,
		retry_interval_seconds, retry_max_interval_seconds, retry_jitter_percent, alert_thresholds_days,
		approval_required, approval_expires_after_hours, maintenance_windows, agent_group_id, revision, created_at, updated_at,
		fallback_issuer_ids, fallback_after_minutes)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb, $14, $15, $16, $16, $17, $18)
	ON CONFLICT (id) DO NOTHING
	RETURNING id, revision AS version
), event AS (
	` + insertEvents("policy", "id", 19) + `
)
SELECT count(*) FROM policy`

// CreateRenewalPolicy implements [issuance.RenewalPolicies].
func (s *Store) CreateRenewalPolicy(ctx context.Context, p renewal.Policy, f issuance.Fact) error {
	stored, err := s.writeRenewalPolicy(ctx, createRenewalPolicySQL, &p, f)
	if err == nil && !stored {
		err = fault.New(fault.Conflict, "a renewal policy with the id %s exists already", p.ID)
	}
	return err
}

// What follows for its certificates is left to the engine, by a trigger.
var updateRenewalPolicySQL = `WITH policy AS (
	UPDATE renewal_policies SET name = $2, auto_renew = $3, renewal_window_days = $4, renewal_window_percent = $5, max_retries = $6,
		retry_interval_seconds = $7, retry_max_interval_seconds = $8, retry_jitter_percent = $9, alert_thresholds_days = $10,
		approval_required = $11, approval_expires_after_hours = $12, maintenance_windows = $13::jsonb, agent_group_id = $14,
		revision = $15, updated_at = $16, fallback_issuer_ids = $17, fallback_after_minutes = $18
	WHERE id = $1 AND revision = $15 - 1
	RETURNING id, revision AS version
), event AS (
	` + insertEvents("policy", "id", 19) + `
)
SELECT count(*) FROM policy`

// UpdateRenewalPolicy implements [issuance.RenewalPolicies].
func (s *Store) UpdateRenewalPolicy(ctx context.Context, p renewal.Policy, f issuance.Fact) error {
	stored, err := s.writeRenewalPolicy(ctx, updateRenewalPolicySQL, &p, f)
	if err != nil {
		return err
	}
	if !stored {
		return fault.New(fault.Precondition, "renewal policy %s was changed or deleted meanwhile; get it again and apply your change to that", p.ID)
	}
	s.hooks.Look()
	return nil
}

// checkFallbacks is Invalid if a policy names issuers that do not exist.
func (s *Store) checkFallbacks(ctx context.Context, p *renewal.Policy) error {
	if len(p.Fallbacks) == 0 {
		return nil
	}
	var unknown []string
	err := s.pool.QueryRow(ctx, `SELECT COALESCE(array_agg(f), '{}') FROM unnest($1::text[]) f WHERE NOT EXISTS (SELECT FROM issuers WHERE id = f)`,
		p.Fallbacks).Scan(&unknown)
	if err != nil {
		return pg.Fault(fmt.Errorf("look up the fallbacks of %s: %w", p.ID, err))
	}
	if len(unknown) > 0 {
		return fault.InvalidFields(fault.Field{Name: "fallback_issuer_ids", Reason: "unknown issuer " + unknown[0]})
	}
	return nil
}

func (s *Store) writeRenewalPolicy(ctx context.Context, sql string, p *renewal.Policy, f issuance.Fact) (bool, error) {
	if err := s.checkFallbacks(ctx, p); err != nil {
		return false, err
	}
	args, err := renewalPolicyArgs(p)
	if err != nil {
		return false, err
	}
	eventArgs, err := factArgs(p.ID, f)
	if err != nil {
		return false, err
	}
	var stored int
	if err := s.pool.QueryRow(ctx, sql, append(args, eventArgs...)...).Scan(&stored); err != nil {
		return false, pg.Fault(fmt.Errorf("store renewal policy %s: %w", p.ID, err))
	}
	s.hooks.Told()
	return stored > 0, nil
}

// factArgs are the arguments of insertEvents for one fact.
func factArgs(key string, f issuance.Fact) ([]any, error) {
	var told events
	if err := told.add(key, f, 0); err != nil {
		return nil, err
	}
	return told.args(), nil
}

var deleteRenewalPolicySQL = `WITH policy AS (
	DELETE FROM renewal_policies WHERE id = $1 RETURNING id, revision + 1 AS version
), event AS (
	` + insertEvents("policy", "id", 2) + `
)
SELECT count(*) FROM policy`

const policyUsersSQL = `SELECT ARRAY(SELECT id FROM certificates WHERE renewal_policy_id = $1 AND status <> 'Archived'
		ORDER BY created_at, id LIMIT $2),
	(SELECT count(*) FROM (SELECT FROM certificates WHERE renewal_policy_id = $1 AND status <> 'Archived' LIMIT $3) t)`

// DeleteRenewalPolicy implements [issuance.RenewalPolicies].
func (s *Store) DeleteRenewalPolicy(ctx context.Context, p renewal.Policy, f issuance.Fact) error {
	eventArgs, err := factArgs(p.ID, f)
	if err != nil {
		return err
	}
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if err := policyIsFree(ctx, tx, p.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE certificates SET renewal_policy_id = $2 WHERE renewal_policy_id = $1 AND status = 'Archived'`,
			p.ID, renewal.Default); err != nil {
			return fmt.Errorf("free archived certificates of renewal policy %s: %w", p.ID, err)
		}
		var gone int
		if err := tx.QueryRow(ctx, deleteRenewalPolicySQL, append([]any{p.ID}, eventArgs...)...).Scan(&gone); err != nil {
			return fmt.Errorf("delete renewal policy %s: %w", p.ID, err)
		}
		if gone == 0 {
			return fault.New(fault.NotFound, "there is no renewal policy %s", p.ID)
		}
		return nil
	})
	if pg.IsForeignKey(err) {
		return fault.New(fault.Conflict, "renewal policy %s is used by a certificate that was made meanwhile", p.ID)
	}
	if err != nil {
		return err
	}
	s.hooks.Told()
	return nil
}

func policyIsFree(ctx context.Context, tx pgx.Tx, id string) error {
	users := record.Uses{Kind: "certificate"}
	if err := tx.QueryRow(ctx, policyUsersSQL, id, record.NamedUses, record.MaxUses).Scan(&users.First, &users.Total); err != nil {
		return fmt.Errorf("look for certificates of renewal policy %s: %w", id, err)
	}
	return record.InUse("renewal policy", id, users)
}

var _ issuance.RenewalPolicies = (*Store)(nil)
