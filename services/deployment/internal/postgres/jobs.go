package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

const jobColumns = `j.id, j.type, j.certificate_id, j.version_id, j.target_id, j.agent_id, j.fingerprint_sha256, j.status,
	j.attempts, j.max_attempts, j.last_error, j.next_action_at, j.started_at, j.completed_at, j.revision,
	j.correlation_id, j.trace_parent`

func scanJob(row pgx.CollectableRow) (*rollout.Job, error) {
	var j rollout.Job
	var due, started, completed *time.Time
	err := row.Scan(&j.ID, &j.Type, &j.CertificateID, &j.VersionID, &j.TargetID, &j.AgentID, &j.Fingerprint, &j.Status,
		&j.Attempts, &j.MaxAttempts, &j.LastError, &due, &started, &completed, &j.Revision,
		&j.Correlation, &j.TraceParent)
	j.NextActionAt, j.StartedAt, j.CompletedAt = orZero(due), orZero(started), orZero(completed)
	return &j, err
}

const insertJobs = `INSERT INTO jobs (id, type, certificate_id, version_id, fingerprint_sha256, target_id, agent_id, status, attempts,
	max_attempts, last_error, next_action_at, completed_at, correlation_id, trace_parent, revision, scheduled_at, created_at)
SELECT n.id, n.type, n.certificate_id, n.version_id, n.fingerprint, n.target_id, n.agent_id, n.status, n.attempts,
	n.max_attempts, n.last_error, n.next_action_at, n.completed_at, n.correlation_id, n.trace_parent, n.revision, $16, $16
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::int[], $9::text[],
	$10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::bigint[], $15::text[], $17::text[])
	AS n (id, certificate_id, version_id, target_id, agent_id, status, attempts, max_attempts, last_error,
		next_action_at, completed_at, correlation_id, trace_parent, revision, fingerprint, type)
ON CONFLICT (certificate_id, version_id, target_id, type) WHERE status IN ` + openStates + ` DO NOTHING
RETURNING id`

// InsertJobs adds jobs and returns the ids of those that were added: a version that is
// on its way to a target already needs no second job.
func InsertJobs(ctx context.Context, tx pgx.Tx, jobs []*rollout.Job, now time.Time) (map[string]bool, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	ids, err := collect(
		ctx, tx, pgx.RowTo[string], insertJobs, kept,
		column(jobs, func(j *rollout.Job) string { return j.ID }),
		column(jobs, func(j *rollout.Job) string { return j.CertificateID }),
		column(jobs, func(j *rollout.Job) string { return j.VersionID }),
		column(jobs, func(j *rollout.Job) string { return j.TargetID }),
		column(jobs, func(j *rollout.Job) string { return j.AgentID }),
		column(jobs, func(j *rollout.Job) string { return string(j.Status) }),
		column(jobs, func(j *rollout.Job) int { return j.Attempts }),
		column(jobs, func(j *rollout.Job) int { return j.MaxAttempts }),
		column(jobs, func(j *rollout.Job) string { return j.LastError }),
		column(jobs, func(j *rollout.Job) *time.Time { return orNull(j.NextActionAt) }),
		column(jobs, func(j *rollout.Job) *time.Time { return orNull(j.CompletedAt) }),
		column(jobs, func(j *rollout.Job) string { return j.Correlation }),
		column(jobs, func(j *rollout.Job) string { return j.TraceParent }),
		column(jobs, func(j *rollout.Job) int64 { return j.Revision }),
		column(jobs, func(j *rollout.Job) string { return j.Fingerprint }),
		now,
		column(jobs, func(j *rollout.Job) string { return j.Type }),
	)
	if err != nil {
		return nil, fmt.Errorf("insert %d jobs: %w", len(jobs), err)
	}
	added := make(map[string]bool, len(ids))
	for _, id := range ids {
		added[id] = true
	}
	return added, nil
}

const lockJobs = `SELECT ` + jobColumns + ` FROM jobs j
WHERE j.id = ANY($1) ORDER BY j.id FOR UPDATE OF j`

// LockJobs reads jobs for a change, by id. Ids that are no jobs of this service are
// left out.
func LockJobs(ctx context.Context, tx pgx.Tx, ids []string) (map[string]*rollout.Job, error) {
	found, err := collect(ctx, tx, scanJob, lockJobs, kept, ids)
	if err != nil {
		return nil, fmt.Errorf("lock %d jobs: %w", len(ids), err)
	}
	jobs := make(map[string]*rollout.Job, len(found))
	for _, j := range found {
		jobs[j.ID] = j
	}
	return jobs, nil
}

const dueJobs = `SELECT ` + jobColumns + ` FROM jobs j
WHERE j.next_action_at <= $1 ORDER BY j.next_action_at LIMIT $2 FOR UPDATE OF j SKIP LOCKED`

// DueJobs claims jobs whose next attempt is due. The claim lasts as long as tx.
func DueJobs(ctx context.Context, tx pgx.Tx, now time.Time, limit int) ([]*rollout.Job, error) {
	jobs, err := collect(ctx, tx, scanJob, dueJobs, now, limit)
	if err != nil {
		return nil, fmt.Errorf("claim due jobs: %w", err)
	}
	return jobs, nil
}

// NextJob is when the next attempt of any job is due.
func NextJob(ctx context.Context, db Querier) (time.Time, error) {
	return next(ctx, db, "a job", `SELECT min(next_action_at) FROM jobs WHERE next_action_at IS NOT NULL`)
}

const saveJobs = `UPDATE jobs j SET agent_id = n.agent_id, status = n.status, attempts = n.attempts,
	last_error = n.last_error, next_action_at = n.next_action_at, started_at = n.started_at,
	completed_at = n.completed_at, revision = n.revision, scheduled_at = coalesce(n.next_action_at, j.scheduled_at)
FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::timestamptz[], $7::timestamptz[],
	$8::timestamptz[], $9::bigint[])
	AS n (id, agent_id, status, attempts, last_error, next_action_at, started_at, completed_at, revision)
WHERE j.id = n.id`

// SaveJobs writes back jobs that this transaction holds.
func SaveJobs(ctx context.Context, tx pgx.Tx, jobs []*rollout.Job) error {
	if len(jobs) == 0 {
		return nil
	}
	err := apply(
		ctx, tx, saveJobs, kept,
		column(jobs, func(j *rollout.Job) string { return j.ID }),
		column(jobs, func(j *rollout.Job) string { return j.AgentID }),
		column(jobs, func(j *rollout.Job) string { return string(j.Status) }),
		column(jobs, func(j *rollout.Job) int { return j.Attempts }),
		column(jobs, func(j *rollout.Job) string { return j.LastError }),
		column(jobs, func(j *rollout.Job) *time.Time { return orNull(j.NextActionAt) }),
		column(jobs, func(j *rollout.Job) *time.Time { return orNull(j.StartedAt) }),
		column(jobs, func(j *rollout.Job) *time.Time { return orNull(j.CompletedAt) }),
		column(jobs, func(j *rollout.Job) int64 { return j.Revision }),
	)
	if err != nil {
		return fmt.Errorf("save %d jobs: %w", len(jobs), err)
	}
	return nil
}

// endDoomed calls off what stands in doomed, as of the time $2, and its orders.
const endDoomed = `), ended AS (
	UPDATE jobs j SET status = 'Cancelled', last_error = d.reason, completed_at = $2, next_action_at = NULL,
		revision = j.revision + 1
	FROM doomed d WHERE j.id = d.id
	RETURNING j.id
)
UPDATE agent_work w SET state = 'Superseded', body = NULL, deadline = NULL, closed_at = $2
FROM ended WHERE w.job_id = ended.id AND w.closed_at IS NULL`

// What is open is looked up for each certificate: there may be far more of it for others.
const cancelJobs = `WITH found AS MATERIALIZED (
	SELECT j.id, n.reason
	FROM unnest($1::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]) AS n (certificate_id, except_version, reason, target_id, revision)
	CROSS JOIN LATERAL (
		SELECT j.id FROM jobs j
		WHERE j.certificate_id = n.certificate_id AND j.version_id <> n.except_version AND (n.target_id = '' OR j.target_id = n.target_id)
			AND j.status IN ` + openStates + `
			AND NOT EXISTS (SELECT FROM wishes w WHERE w.certificate_id = j.certificate_id AND w.target_id = j.target_id AND w.revision > n.revision)
		OFFSET 0
	) j
), doomed AS (
	SELECT j.id, f.reason FROM found f JOIN jobs j ON j.id = f.id
	WHERE j.completed_at IS NULL
	ORDER BY j.id FOR UPDATE OF j
` + endDoomed

// Doom says which open jobs of a certificate are called off.
type Doom struct {
	CertificateID string
	// ExceptVersion is the one version whose jobs go on; empty if none do.
	ExceptVersion string
	// TargetID is the one target whose jobs are meant; empty for all.
	TargetID string
	Reason   string
	// Revision is that of the certificate when it was said. What was wished for a target
	// later goes on.
	Revision int64
}

// CancelJobs calls off jobs, and their orders.
func CancelJobs(ctx context.Context, tx pgx.Tx, dooms []Doom, now time.Time) error {
	if len(dooms) == 0 {
		return nil
	}
	err := apply(
		ctx, tx, cancelJobs, kept,
		column(dooms, func(d Doom) string { return d.CertificateID }),
		now,
		column(dooms, func(d Doom) string { return d.ExceptVersion }),
		column(dooms, func(d Doom) string { return d.Reason }),
		column(dooms, func(d Doom) string { return d.TargetID }),
		column(dooms, func(d Doom) int64 { return d.Revision }),
	)
	if err != nil {
		return fmt.Errorf("cancel open jobs of %d certificates: %w", len(dooms), err)
	}
	return nil
}

// Each later job at a place was made because its version was wanted there from then on.
const undoneDeployments = `SELECT ` + jobColumns + ` FROM (
	SELECT DISTINCT ON (i.certificate_id, i.target_id) i.version_id AS installed, j.*
	FROM jobs i
	JOIN certificates c ON c.id = i.certificate_id AND NOT c.archived AND i.target_id = ANY(c.target_ids)
	JOIN jobs j ON j.certificate_id = i.certificate_id AND j.target_id = i.target_id AND j.type = 'Deployment'
		AND j.id <> i.id AND j.created_at >= i.created_at AND j.status <> 'Cancelled'
	WHERE i.id = ANY($1)
	ORDER BY i.certificate_id, i.target_id, j.created_at DESC, j.id DESC
) j WHERE j.status = 'Completed' AND j.version_id <> j.installed`

// UndoneDeployments lists, for jobs that installed a version after another one had taken
// its place, the completed jobs whose work they undid.
func UndoneDeployments(ctx context.Context, tx pgx.Tx, installed []*rollout.Job) ([]*rollout.Job, error) {
	undone, err := collect(ctx, tx, scanJob, undoneDeployments, column(installed, func(j *rollout.Job) string { return j.ID }))
	if err != nil {
		return nil, fmt.Errorf("find undone deployments: %w", err)
	}
	return undone, nil
}
