-- +goose Up
-- What filters and search expressions ask of jobs, each in the order of the list.
CREATE INDEX jobs_type ON jobs (type, created_at DESC, id DESC);
CREATE INDEX jobs_target ON jobs (target_id, created_at DESC, id DESC);
CREATE INDEX jobs_agent ON jobs (agent_id, created_at DESC, id DESC);
