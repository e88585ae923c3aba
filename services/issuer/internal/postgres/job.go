package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// workColumns are those of a job j, its status apart, its certificate c, the certificate's targets t and the policy rp
// that the job goes by, or the usual if that one has been deleted.
const workColumns = `j.id, j.type, j.certificate_id, j.attempts, j.max_attempts, j.agent_id, j.csr_pem, j.version_id,
	j.last_error, j.lease_token, j.requested_by, j.correlation_id, j.trace_parent, j.created_at,
	c.common_name, c.sans, c.issuer_id, c.version_id, c.expires_at, c.name, c.environment, c.owner_id, c.team_id,
	c.certificate_profile_id, c.renewal_policy_id, c.tags, t.ids, t.agents, t.enabled, t.versions,
	j.renewal_policy_id, COALESCE(rp.retry_interval_seconds, 5), COALESCE(rp.retry_max_interval_seconds, 600),
	COALESCE(rp.retry_jitter_percent, 30), j.setbacks, j.waiting_since, j.ca_order, j.ca_order_issuer`

const workTargets = `LEFT JOIN LATERAL (
		SELECT array_agg(ct.target_id ORDER BY ct.position) AS ids,
			array_agg(CASE WHEN ta.deleted THEN '' ELSE COALESCE(ta.agent_id, '') END ORDER BY ct.position) AS agents,
			array_agg(COALESCE(ta.enabled, false) ORDER BY ct.position) AS enabled,
			array_agg(` + servedAs + ` ORDER BY ct.position) AS versions
		FROM certificate_targets ct LEFT JOIN target_agents ta USING (target_id)
		WHERE ct.certificate_id = c.id
	) t ON true`

// workPolicy is the policy that a job goes by: the certificate's, if it is from before jobs named one.
const workPolicy = `LEFT JOIN renewal_policies rp ON rp.id = COALESCE(NULLIF(j.renewal_policy_id, ''), c.renewal_policy_id)`

func scanWork(row pgx.CollectableRow) (issuance.Work, error) {
	var w issuance.Work
	var ids, agents, versions []string
	var tags []byte
	var enabled []bool
	var plan renewal.Policy
	var interval, longest int
	var waiting *time.Time
	err := row.Scan(&w.Status, &w.ID, &w.Type, &w.CertificateID, &w.Attempts, &w.MaxAttempts, &w.AgentID, &w.CSRPEM, &w.VersionID,
		&w.LastError, &w.Token, &w.Origin.Actor, &w.Origin.CorrelationID, &w.Origin.TraceParent, &w.CreatedAt,
		&w.CommonName, &w.SANs, &w.IssuerID, &w.CurrentVersionID, &w.ExpiresAt, &w.Name, &w.Environment, &w.OwnerID, &w.TeamID,
		&w.ProfileID, &w.RenewalPolicyID, &tags, &ids, &agents, &enabled, &versions,
		&w.PolicyID, &interval, &longest, &plan.RetryJitterPercent, &w.Setbacks, &waiting, &w.Order, &w.OrderIssuerID)
	if err != nil {
		return w, err
	}
	if w.Tags, err = decodeTags(tags); err != nil {
		return w, fmt.Errorf("tags of %s: %w", w.CertificateID, err)
	}
	plan.MaxRetries, w.WaitingSince = w.MaxAttempts, orZero(waiting)
	plan.RetryInterval, plan.RetryMaxInterval = time.Duration(interval)*time.Second, time.Duration(longest)*time.Second
	w.Retry = plan.Retry()
	w.Targets = targetsOf(ids, agents, enabled, versions)
	return w, nil
}

func targetsOf(ids, agents []string, enabled []bool, versions []string) []issuance.Target {
	targets := make([]issuance.Target, len(ids))
	for i := range ids {
		targets[i] = issuance.Target{ID: ids[i], AgentID: agents[i], Enabled: enabled[i], VersionID: versions[i]}
	}
	return targets
}

const loadSQL = `SELECT j.status, ` + workColumns + `
FROM jobs j JOIN certificates c ON c.id = j.certificate_id ` + workTargets + ` ` + workPolicy + `
WHERE j.id = ANY($1)`

func load(ctx context.Context, q querier, ids []string) (map[string]issuance.Work, error) {
	rows, err := q.Query(ctx, loadSQL, ids)
	if err != nil {
		return nil, fmt.Errorf("load %d jobs: %w", len(ids), err)
	}
	works, err := pgx.CollectRows(rows, scanWork)
	if err != nil {
		return nil, fmt.Errorf("load %d jobs: %w", len(ids), err)
	}
	found := make(map[string]issuance.Work, len(works))
	for _, w := range works {
		found[w.ID] = w
	}
	return found, nil
}

// Job implements [issuance.Store].
func (s *Store) Job(ctx context.Context, scope authn.Scope, id string) (issuance.Work, error) {
	w, found, err := s.work(ctx, scope, "j.id = $1", id)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "there is no job %s", id)
	}
	return w, err
}

// OpenJob implements [issuance.Store].
func (s *Store) OpenJob(ctx context.Context, scope authn.Scope, certificateID string) (issuance.Work, bool, error) {
	const open = `j.certificate_id = $1 AND j.status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')`
	w, found, err := s.work(ctx, scope, open, certificateID)
	if err == nil && !found {
		_, err = s.Certificate(ctx, scope, certificateID)
	}
	return w, found, err
}

func (s *Store) work(ctx context.Context, scope authn.Scope, condition, arg string) (issuance.Work, bool, error) {
	c := conditions{args: []any{arg}}
	c.scope(scope)
	rows, err := s.pool.Query(ctx, `SELECT j.status, `+workColumns+`
		FROM jobs j JOIN certificates c ON c.id = j.certificate_id `+workTargets+` `+workPolicy+`
		WHERE `+condition+c.and(), c.args...)
	if err != nil {
		return issuance.Work{}, false, pg.Fault(fmt.Errorf("load job: %w", err))
	}
	works, err := pgx.CollectRows(rows, scanWork)
	if err != nil {
		return issuance.Work{}, false, pg.Fault(fmt.Errorf("load job: %w", err))
	}
	if len(works) == 0 {
		return issuance.Work{}, false, nil
	}
	return works[0], true, nil
}

const claimSQL = `WITH due AS (
	SELECT id, status FROM jobs
	WHERE next_action_at <= $1
	ORDER BY next_action_at LIMIT $3
	FOR UPDATE SKIP LOCKED
), j AS (
	UPDATE jobs SET status = CASE due.status WHEN 'AwaitingApproval' THEN due.status ELSE 'Running' END,
		lease_until = $2, next_action_at = $2, lease_token = jobs.lease_token + 1, asks = '',
		started_at = CASE due.status WHEN 'AwaitingApproval' THEN jobs.started_at ELSE COALESCE(jobs.started_at, $1) END
	FROM due WHERE jobs.id = due.id
	RETURNING jobs.*, due.status AS before
)
SELECT j.before, ` + workColumns + `
FROM j JOIN certificates c ON c.id = j.certificate_id ` + workTargets + ` ` + workPolicy

// Claim implements [issuance.Store].
func (s *Store) Claim(ctx context.Context, now, lease time.Time, limit int) ([]issuance.Work, error) {
	rows, err := s.pool.Query(ctx, claimSQL, now, lease, limit)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("claim jobs: %w", err))
	}
	works, err := pgx.CollectRows(rows, scanWork)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("claim jobs: %w", err))
	}
	return works, nil
}

// NextDue returns when the next job is due, false if none is waited for.
func (s *Store) NextDue(ctx context.Context) (time.Time, bool, error) {
	var at *time.Time
	err := s.pool.QueryRow(ctx, `SELECT min(next_action_at) FROM jobs WHERE next_action_at IS NOT NULL`).Scan(&at)
	if err != nil {
		return time.Time{}, false, pg.Fault(fmt.Errorf("look for the next job: %w", err))
	}
	return orZero(at), at != nil, nil
}
