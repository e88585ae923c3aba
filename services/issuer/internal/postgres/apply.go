package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// While a job is open its certificate is Pending or RenewalInProgress, so only from there does the end of a job lead on.
// Asked for what a job must not be, the server finds it by its id; asked for what it may be, it looks through all open jobs.
var applySQL = `WITH input AS (
	SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[],
		$8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[], $12::boolean[], $13::boolean[],
		` + versionParameters(14) + `, ` + waitParameters(14+len(versionTypes)+eventWidth) + `)
	AS i (job_id, token, status, attempts, agent_id, csr_pem, last_error,
		next_action_at, at, certificate_status, reason, told, renewal,
		` + versionNames + `, asks, setbacks, waiting_since, authority_key_id)
), job AS (
	UPDATE jobs j SET status = i.status, attempts = i.attempts, agent_id = i.agent_id, csr_pem = i.csr_pem,
		version_id = i.version_id, last_error = i.last_error, next_action_at = i.next_action_at,
		lease_until = NULL, lease_token = j.lease_token + 1, started_at = COALESCE(j.started_at, i.at),
		completed_at = CASE WHEN i.status IN ('Completed', 'Failed', 'Cancelled') THEN i.at END,
		asks = i.asks, setbacks = i.setbacks, waiting_since = i.waiting_since,
		ca_order = CASE WHEN i.csr_pem = j.csr_pem AND i.version_id = '' THEN j.ca_order END
	FROM input i
	WHERE j.id = i.job_id AND j.lease_token = i.token
		AND j.status NOT IN ('Completed', 'Failed', 'Cancelled')
	RETURNING j.id, j.certificate_id
), cert AS (
	UPDATE certificates c SET
		status = CASE WHEN i.certificate_status <> '' AND c.status IN ('Pending', 'RenewalInProgress')
			THEN i.certificate_status ELSE c.status END,
		status_reason = i.reason, version = c.version + i.told::int, updated_at = i.at,
		version_id = CASE WHEN i.version_id <> '' THEN i.version_id ELSE c.version_id END,
		serial_number = CASE WHEN i.version_id <> '' THEN i.serial_number ELSE c.serial_number END,
		fingerprint_sha256 = CASE WHEN i.version_id <> '' THEN i.fingerprint_sha256 ELSE c.fingerprint_sha256 END,
		expires_at = CASE WHEN i.version_id <> '' THEN i.not_after ELSE c.expires_at END,
		last_renewal_at = CASE WHEN i.version_id <> '' AND i.renewal THEN i.at ELSE c.last_renewal_at END
	FROM job JOIN input i ON i.job_id = job.id
	WHERE c.id = job.certificate_id
	RETURNING job.id AS job_id, c.version
), version AS (
	` + insertVersions("job.certificate_id", "input i JOIN job ON job.id = i.job_id") + `
), event AS (
	` + insertEvents("cert", "job_id", 14+len(versionTypes)) + `
)
SELECT id FROM job`

// apply makes the changes whose tokens are the newest, with their events, and returns the ids of their jobs.
func apply(ctx context.Context, q querier, changes []issuance.Change) (map[string]bool, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	args, err := applyArgs(changes)
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, applySQL, args...)
	if err != nil {
		return nil, fmt.Errorf("change %d jobs: %w", len(changes), err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("change %d jobs: %w", len(changes), err)
	}
	applied := make(map[string]bool, len(ids))
	for _, id := range ids {
		applied[id] = true
	}
	if err := settleKeys(ctx, q, changes, applied); err != nil {
		return nil, err
	}
	var breaches []issuance.Breach
	for i := range changes {
		if applied[changes[i].JobID] {
			breaches = append(breaches, changes[i].Breaches...)
		}
	}
	return applied, putOnRecord(ctx, q, breaches)
}

func applyArgs(changes []issuance.Change) ([]any, error) {
	type row = issuance.Change
	text := func(field func(*row) string) []string { return column(changes, field) }
	var told events
	for i := range changes {
		if f := changes[i].Fact; f != nil {
			if err := told.add(changes[i].JobID, *f, 0); err != nil {
				return nil, err
			}
		}
	}
	eventArgs := told.args()
	args := []any{
		text(func(r *row) string { return r.JobID }),
		column(changes, func(r *row) int64 { return r.Token }),
		text(func(r *row) string { return string(r.Status) }),
		column(changes, func(r *row) int { return r.Attempts }),
		text(func(r *row) string { return r.AgentID }),
		text(func(r *row) string { return r.CSRPEM }),
		text(func(r *row) string { return r.LastError }),
		column(changes, func(r *row) *time.Time { return orNull(r.NextActionAt) }),
		column(changes, func(r *row) time.Time { return r.At }),
		text(func(r *row) string { return string(r.CertificateStatus) }),
		text(func(r *row) string { return r.Reason }),
		column(changes, func(r *row) bool { return r.Fact != nil }),
		column(changes, func(r *row) bool { return r.Renewal }),
	}
	versions := column(changes, func(r *row) *issuance.Version { return r.Version })
	args = append(append(args, versionArgs(versions)...), eventArgs...)
	return append(args,
		text(func(r *row) string { return r.Asks }),
		column(changes, func(r *row) int { return r.Setbacks }),
		column(changes, func(r *row) *time.Time { return orNull(r.WaitingSince) }),
		authorityKeyIDs(versions),
	), nil
}

// waitParameters are the arguments of unnest for what a job waits for, and for the keys that signed, from parameter number
// first.
func waitParameters(first int) string {
	return fmt.Sprintf("$%d::text[], $%d::int[], $%d::timestamptz[], $%d::text[]", first, first+1, first+2, first+3)
}
