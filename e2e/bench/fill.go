package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// What an inventory holds, in a full run.
const (
	fullCertificates = 1_000_000
	fullJobs         = 1_000_000
	fullAudit        = 5_000_000
)

// fillCertificates puts certificates into the issuer's tables: in every state, with expiries over a quarter, of some
// teams, owners and environments.
const fillCertificates = `
INSERT INTO issuer.teams (id, name)
SELECT 't-bench-' || i, 'Team ' || i FROM generate_series(1, 20) AS i ON CONFLICT DO NOTHING;
INSERT INTO issuer.owners (id, name, email, team_id)
SELECT 'o-bench-' || i, 'Owner ' || i, 'owner' || i || '@bench.test', 't-bench-' || 1 + i %% 20 FROM generate_series(1, 200) AS i
ON CONFLICT DO NOTHING;
INSERT INTO issuer.certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id, renewal_policy_id, status, tags,
                                 expires_at, serial_number, fingerprint_sha256, created_at, updated_at)
SELECT 'mc-row-' || lpad(i::text, 7, '0'), 'host-' || i, 'host-' || i || '.bench.test', ARRAY['host-' || i || '.bench.test'],
       (ARRAY['production', 'staging', 'test'])[1 + i %% 3], 'o-bench-' || 1 + i %% 200, 't-bench-' || 1 + i %% 20,
       'iss-local', 'rp-default',
       CASE WHEN i %% 1000 = 0 THEN 'Failed' WHEN i %% 1000 = 1 THEN 'Revoked' WHEN i %% 1000 < 10 THEN 'Archived'
            WHEN i %% 90 < 30 THEN 'Expiring' ELSE 'Active' END,
       jsonb_build_object('tier', (i %% 5)::text),
       now() + interval '1 hour' + (i %% 90) * interval '1 day' + i * interval '1 millisecond', md5(i::text), md5(i::text) || md5((i + 1)::text),
       now() - (i %% 1000) * interval '1 hour', now()
FROM generate_series(1, %d) AS i`

const fillJobs = `
INSERT INTO issuer.jobs (id, type, certificate_id, status, attempts, requested_by, created_at, started_at, completed_at, last_error)
SELECT 'job-i-row-' || lpad(i::text, 7, '0'), CASE WHEN i %% 4 = 0 THEN 'Issuance' ELSE 'Renewal' END,
       'mc-row-' || lpad((1 + i %% %d)::text, 7, '0'), CASE WHEN i %% 50 = 0 THEN 'Failed' ELSE 'Completed' END, 1, 'key-bench',
       at, at, at + interval '1 second', ''
FROM (SELECT i, now() - (i %% 43200) * interval '1 minute' AS at FROM generate_series(1, %d) AS i) AS i`

// fillAudit continues the chain with events whose hashes are computed here, by the description of the chain and not by
// the service's code: certctl admin audit verify then checks one against the other.
const fillAudit = `
SET search_path = audit;
DO $$
DECLARE
	previous bytea := COALESCE((SELECT hash FROM audit_events ORDER BY sequence DESC LIMIT 1), decode(repeat('00', 32), 'hex'));
	place bigint := COALESCE((SELECT max(sequence) FROM audit_events), 0);
	begun timestamptz := date_trunc('second', now()) - interval '30 days';
	fields text[];
	field text;
	chained bytea;
BEGIN
	FOR i IN 1..%d LOOP
		place := place + 1;
		fields := ARRAY[place::text, 'ae-row-' || i, 'key-bench-' || i %% 50, 'User',
			(ARRAY['api_get', 'api_post', 'certificate_issued', 'deployment_job_completed'])[1 + i %% 4],
			(ARRAY['api', 'api', 'certificate', 'deployment'])[1 + i %% 4],
			CASE WHEN i %% 4 < 2 THEN '/api/v1/certificates' ELSE 'mc-row-' || lpad((i %% 1000000)::text, 7, '0') END,
			'{"status":200,"latency_ms":1}', to_char((begun + i * interval '0.5 seconds') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')];
		chained := int8send(32) || previous;
		FOREACH field IN ARRAY fields LOOP
			chained := chained || int8send(octet_length(field)) || convert_to(field, 'UTF8');
		END LOOP;
		previous := sha256(chained);
		INSERT INTO audit_events (sequence, id, actor, actor_type, action, resource_type, resource_id, details, happened_at, hash)
		VALUES (place, fields[2], fields[3], fields[4], fields[5], fields[6], fields[7], fields[8]::json, fields[9]::timestamptz, previous);
	END LOOP;
END $$`

// inventory fills the installation's tables, past its services.
func (in *installation) inventory(ctx context.Context, certificates, jobs, audit int) error {
	conn, err := in.database(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, fill := range []struct{ what, sql string }{
		{"certificates", fmt.Sprintf(fillCertificates, certificates)},
		{"jobs", fmt.Sprintf(fillJobs, certificates, jobs)},
		{"audit events", fmt.Sprintf(fillAudit, audit)},
		{"statistics", "VACUUM ANALYZE issuer.certificates, issuer.jobs, audit.audit_events"},
	} {
		// The simple protocol takes several statements at once.
		if _, err := conn.PgConn().Exec(ctx, fill.sql).ReadAll(); err != nil {
			return fmt.Errorf("fill %s: %w", fill.what, err)
		}
	}
	return nil
}

// database connects to the installation's Postgres as its superuser.
func (in *installation) database(ctx context.Context) (*pgx.Conn, error) {
	text, err := os.ReadFile(filepath.Join(in.dataDir, "running.json"))
	if err != nil {
		return nil, err
	}
	var running struct {
		DatabaseURL string `json:"database_url"`
	}
	if err := json.Unmarshal(text, &running); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(running.DatabaseURL)
	if err != nil {
		return nil, err
	}
	config.Database = "certctl"
	return pgx.ConnectConfig(ctx, config)
}
