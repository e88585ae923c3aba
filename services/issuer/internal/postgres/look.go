package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/renewal"
)

// lookColumns are those of a certificate c with its targets t, its newest version v and its latest failure f.
const lookColumns = certificateColumns + `, CASE WHEN v.imported THEN v.not_before ELSE GREATEST(v.not_before, v.created_at) END, f.at, c.alerted_days,
	c.advised_renewal_at, c.advised_renewal_until, t.ids, t.agents, t.enabled, t.versions`

const lookJoins = `LEFT JOIN certificate_versions v ON v.id = c.version_id
	LEFT JOIN LATERAL (
		-- A rollback undoes a renewal: the next one waits as it does after one that has failed.
		SELECT GREATEST(max(j.completed_at), (SELECT max(t.deployed_at) FROM certificate_targets t
			WHERE t.certificate_id = c.id AND t.rolled_back_from = c.version_id AND t.version_id = t.rolled_back_to)) AS at
		FROM jobs j
		WHERE j.certificate_id = c.id AND j.type = 'Renewal' AND j.status IN ('Failed', 'Cancelled') AND j.created_at >= v.created_at
	) f ON true ` + workTargets

func scanLook(row pgx.CollectableRow) (issuance.Look, error) {
	var l issuance.Look
	var began, failed, advised, until *time.Time
	var ids, agents, versions []string
	var enabled []bool
	var err error
	l.Certificate, err = certificateScan(&began, &failed, &l.Told, &advised, &until, &ids, &agents, &enabled, &versions)(row)
	if err != nil {
		return l, err
	}
	l.IssuedAt, l.Failed = orZero(began), orZero(failed)
	l.Advised.At, l.Advised.End = orZero(advised), orZero(until)
	if began == nil {
		// A version that is recorded nowhere else began when its certificate did.
		l.IssuedAt = l.CreatedAt
	}
	l.Targets = targetsOf(ids, agents, enabled, versions)
	return l, nil
}

// The columns come from the rows as they are locked, not from the statement's snapshot, which may be older.
const dueSQL = `WITH c AS (
	SELECT * FROM certificates
	WHERE next_action_at <= $1
	ORDER BY next_action_at LIMIT $2
	FOR UPDATE SKIP LOCKED
)
SELECT ` + lookColumns + ` FROM c ` + lookJoins

// Renewals that wait for a person, to approve them or to hand in a request, keep no issuer busy.
const inProgressSQL = `SELECT c.issuer_id, count(*)
FROM jobs j JOIN certificates c ON c.id = j.certificate_id
WHERE j.status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running') AND j.type = 'Renewal'
	AND j.status <> 'AwaitingApproval' AND (j.status <> 'AwaitingCSR' OR j.agent_id <> '')
GROUP BY c.issuer_id`

var stepSQL = `WITH input AS (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::timestamptz[], $6::int[])
		AS i (id, status, reason, told_days, next_action_at, told)
), cert AS (
	UPDATE certificates c SET
		status = CASE WHEN i.status <> '' THEN i.status ELSE c.status END,
		status_reason = CASE WHEN i.status <> '' THEN i.reason ELSE c.status_reason END,
		alerted_days = i.told_days, next_action_at = i.next_action_at, version = c.version + i.told,
		updated_at = CASE WHEN i.status <> '' THEN $7 ELSE c.updated_at END
	FROM input i WHERE c.id = i.id
	RETURNING c.id, c.version
), job AS (
	INSERT INTO jobs (id, type, certificate_id, status, max_attempts, next_action_at, requested_by, correlation_id,
		renewal_policy_id, created_at, attempts, agent_id, started_at)
	SELECT j.id, j.type, cert.id, j.status, j.max_attempts, j.next_action_at, j.requested_by, j.correlation_id, j.policy, $7,
		j.attempts, j.agent_id, CASE WHEN j.agent_id <> '' THEN $7 END
	FROM unnest($8::text[], $9::text[], $10::text[], $11::text[], $12::int[], $13::timestamptz[], $14::text[], $15::text[], $16::text[],
			$17::int[], $18::text[])
		AS j (id, type, certificate_id, status, max_attempts, next_action_at, requested_by, correlation_id, policy, attempts, agent_id)
	JOIN cert ON cert.id = j.certificate_id
)
` + insertEvents("cert", "id", 19)

// Look implements [issuance.Store]. Several replicas look at different certificates at once; those that begin renewals
// take turns, so that they agree on how many are under way.
func (s *Store) Look(
	ctx context.Context, now time.Time, limit int, decide func(context.Context, issuance.Looks) ([]issuance.Step, error),
) (n int, err error) {
	var begun bool
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		n, begun = 0, false
		looks, err := due(ctx, tx, now, limit)
		if err != nil || len(looks.Rows) == 0 {
			return err
		}
		steps, err := decide(ctx, looks)
		if err != nil {
			return err
		}
		n = len(steps)
		begun, err = take(ctx, tx, steps, now)
		return err
	})
	if err != nil {
		return 0, err
	}
	if n > 0 {
		s.hooks.Told()
	}
	if begun {
		s.hooks.Due()
	}
	return n, nil
}

func due(ctx context.Context, tx pgx.Tx, now time.Time, limit int) (issuance.Looks, error) {
	rows, err := tx.Query(ctx, dueSQL, now, limit)
	if err != nil {
		return issuance.Looks{}, fmt.Errorf("look for certificates that are due: %w", err)
	}
	looks := issuance.Looks{InProgress: func(ctx context.Context) (map[string]int, error) { return inProgress(ctx, tx) }}
	if looks.Rows, err = pgx.CollectRows(rows, scanLook); err != nil || len(looks.Rows) == 0 {
		return looks, err
	}
	ids := []string{renewal.Default}
	for i := range looks.Rows {
		ids = append(ids, looks.Rows[i].RenewalPolicyID)
	}
	policies, err := renewalPolicies(ctx, tx, ids)
	if err != nil {
		return looks, err
	}
	looks.Default = policies[renewal.Default]
	for i := range looks.Rows {
		looks.Rows[i].Policy = policies[looks.Rows[i].RenewalPolicyID]
	}
	return looks, nil
}

func inProgress(ctx context.Context, tx pgx.Tx) (map[string]int, error) {
	if err := pg.LockTx(ctx, tx, "renewals"); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, inProgressSQL)
	if err != nil {
		return nil, fmt.Errorf("count renewals under way: %w", err)
	}
	counts := map[string]int{}
	var issuer string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&issuer, &n}, func() error {
		counts[issuer] = n
		return nil
	}); err != nil {
		return nil, fmt.Errorf("count renewals under way: %w", err)
	}
	return counts, nil
}

// take stores steps, and reports whether a job is among them that a worker has to see to.
func take(ctx context.Context, tx pgx.Tx, steps []issuance.Step, now time.Time) (begun bool, err error) {
	var told events
	var jobs []issuance.Job
	for i := range steps {
		if err := told.tell(steps[i].CertificateID, steps[i].Facts); err != nil {
			return false, err
		}
		if j := steps[i].Job; j != nil {
			jobs = append(jobs, *j)
			begun = begun || !j.NextActionAt.IsZero()
		}
	}
	eventArgs := told.args()
	type row = issuance.Step
	text := func(field func(*issuance.Job) string) []string { return column(jobs, field) }
	args := []any{
		column(steps, func(s *row) string { return s.CertificateID }),
		column(steps, func(s *row) string { return string(s.Status) }),
		column(steps, func(s *row) string { return s.Reason }),
		column(steps, func(s *row) *int { return s.Told }),
		column(steps, func(s *row) *time.Time { return orNull(s.NextActionAt) }),
		column(steps, func(s *row) int { return len(s.Facts) }),
		now,
		text(func(j *issuance.Job) string { return j.ID }),
		text(func(j *issuance.Job) string { return string(j.Type) }),
		text(func(j *issuance.Job) string { return j.CertificateID }),
		text(func(j *issuance.Job) string { return string(j.Status) }),
		column(jobs, func(j *issuance.Job) int { return j.MaxAttempts }),
		column(jobs, func(j *issuance.Job) *time.Time { return orNull(j.NextActionAt) }),
		text(func(j *issuance.Job) string { return j.Origin.Actor }),
		text(func(j *issuance.Job) string { return j.Origin.CorrelationID }),
		text(func(j *issuance.Job) string { return j.PolicyID }),
		column(jobs, func(j *issuance.Job) int { return j.Attempts }),
		text(func(j *issuance.Job) string { return j.AgentID }),
	}
	if _, err := tx.Exec(ctx, stepSQL, append(args, eventArgs...)...); err != nil {
		return false, fmt.Errorf("take the next step of %d certificates: %w", len(steps), err)
	}
	return begun, nil
}

// LookAt returns a certificate as the engine would see it, else NotFound.
func (s *Store) LookAt(ctx context.Context, scope authn.Scope, id string) (issuance.Look, error) {
	c := conditions{args: []any{id}}
	c.scope(scope)
	rows, err := s.pool.Query(ctx, `SELECT `+lookColumns+` FROM certificates c `+lookJoins+` WHERE c.id = $1`+c.and(), c.args...)
	if err != nil {
		return issuance.Look{}, pg.Fault(fmt.Errorf("read certificate %s: %w", id, err))
	}
	found, err := pgx.CollectExactlyOneRow(rows, scanLook)
	if errors.Is(err, pgx.ErrNoRows) {
		return found, notFound(id)
	}
	return found, pg.Fault(err)
}

// By the condition on next_action_at no certificate is looked at later than it would have been.
const rescheduleSQL = `WITH work AS (
	SELECT policy_id, renewal_lead(policy_id) AS lead, created_at, certificate_id FROM reschedules
	ORDER BY policy_id LIMIT 1 FOR UPDATE SKIP LOCKED
), batch AS (
	SELECT c.id, c.created_at FROM work, LATERAL (
		SELECT id, created_at FROM certificates
		WHERE renewal_policy_id = work.policy_id AND (created_at, id) > (work.created_at, work.certificate_id)
		ORDER BY created_at, id LIMIT $1
	) c
), done AS (
	UPDATE certificates c SET next_action_at = COALESCE(c.expires_at - work.lead, 'epoch')
	FROM work, batch b
	WHERE c.id = b.id AND c.version_id <> '' AND c.status NOT IN ('Revoked', 'Archived')
		AND (c.next_action_at IS NULL OR c.next_action_at > COALESCE(c.expires_at - work.lead, 'epoch'))
), last AS (
	SELECT created_at, id FROM batch ORDER BY created_at DESC, id DESC LIMIT 1
), progress AS (
	UPDATE reschedules r SET created_at = last.created_at, certificate_id = last.id
	FROM work, last WHERE r.policy_id = work.policy_id
), end_of_it AS (
	DELETE FROM reschedules r USING work WHERE r.policy_id = work.policy_id AND NOT EXISTS (SELECT FROM batch)
)
SELECT count(id) FROM batch`

// Reschedule implements [issuance.Store].
func (s *Store) Reschedule(ctx context.Context, limit int) (n int, err error) {
	if err := s.pool.QueryRow(ctx, rescheduleSQL, limit).Scan(&n); err != nil {
		return 0, pg.Fault(fmt.Errorf("go through the certificates of a policy that has changed: %w", err))
	}
	return n, nil
}

// Looks is when certificates are to be looked at.
type Looks struct{ *Store }

// A policy that has changed is due at once.
const nextLookSQL = `SELECT LEAST((SELECT min(next_action_at) FROM certificates WHERE next_action_at IS NOT NULL),
	(SELECT min(timestamptz 'epoch') FROM reschedules))`

// NextDue returns when the next certificate is to be looked at, false if none is.
func (l Looks) NextDue(ctx context.Context) (time.Time, bool, error) {
	var at *time.Time
	err := l.pool.QueryRow(ctx, nextLookSQL).Scan(&at)
	if err != nil {
		return time.Time{}, false, pg.Fault(fmt.Errorf("look for the next certificate: %w", err))
	}
	return orZero(at), at != nil, nil
}
