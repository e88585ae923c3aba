-- +goose Up
-- A job is written twice, when it begins and when it ends, with an entry in each index both times.
-- What is under way for a certificate is found without what has ended.
DROP INDEX jobs_open;
CREATE UNIQUE INDEX jobs_open ON jobs (certificate_id, version_id, target_id, type)
	WHERE status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running');
-- Jobs of a certificate on a target: what jobs_certificate or jobs_target finds, whichever finds less, holds few others.
DROP INDEX jobs_place;
-- Almost all jobs are deployments, which jobs_newest finds.
DROP INDEX jobs_type;
CREATE INDEX jobs_type ON jobs (created_at DESC, id DESC) WHERE type = 'Validation';
-- Counted as well from jobs_status.
DROP INDEX jobs_stats;

-- An order that is open has a deadline, and one index finds it by that and by its agent. What was closed long ago is
-- found by looking at all, now and then.
DROP INDEX agent_work_due;
DROP INDEX agent_work_open;
DROP INDEX agent_work_closed;
CREATE INDEX agent_work_open ON agent_work (deadline, agent_id) WHERE deadline IS NOT NULL;

-- Nobody asks for versions but by their id.
DROP INDEX versions_certificate;

-- Signed orders and chains stay with their row as they are, see outbox.
ALTER TABLE agent_work SET (toast_tuple_target = 8160);
ALTER TABLE versions SET (toast_tuple_target = 8160);
-- Told of again and again; with room on its page a row changes without an entry in any index.
ALTER TABLE certificates SET (fillfactor = 70);
