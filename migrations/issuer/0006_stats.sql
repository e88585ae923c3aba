-- +goose Up
-- What dashboards count is counted from indexes alone, when somebody looks. Counters that each
-- change keeps up would make one row of them the place where all changes wait for each other.
CREATE INDEX certificates_stats ON certificates (status, expires_at);
-- Equal keys take little room, so a million jobs are counted from a few MB.
CREATE INDEX jobs_stats ON jobs (type, status);
CREATE INDEX jobs_ended ON jobs (completed_at, status) WHERE completed_at IS NOT NULL;
CREATE INDEX certificate_versions_created ON certificate_versions (created_at);
