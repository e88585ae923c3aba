-- +goose Up
-- What dashboards count is counted from indexes alone, see the issuer's.
CREATE INDEX jobs_stats ON jobs (status);
CREATE INDEX jobs_ended ON jobs (completed_at, status) WHERE completed_at IS NOT NULL;
