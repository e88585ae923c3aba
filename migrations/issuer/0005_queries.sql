-- +goose Up
-- Names and common names sort by their bytes, whatever the collation of the database: one index then serves the order,
-- equality and prefixes, and pages do not change with the C library.
ALTER TABLE certificates ADD COLUMN IF NOT EXISTS certificate_profile_id text NOT NULL DEFAULT '';
DROP INDEX certificates_common_name;
CREATE INDEX certificates_common_name ON certificates ((common_name COLLATE "C"), id);
CREATE INDEX certificates_name ON certificates ((name COLLATE "C"), id);
CREATE INDEX certificates_updated ON certificates (updated_at, id);
CREATE INDEX certificates_status_order ON certificates (status, id);
CREATE INDEX certificates_environment_order ON certificates (environment, id);
CREATE INDEX IF NOT EXISTS certificates_profile ON certificates (certificate_profile_id, created_at, id);
-- What search expressions ask besides: suffixes of names, names among several, tags.
CREATE INDEX certificates_suffix ON certificates ((reverse(common_name) COLLATE "C"));
CREATE INDEX certificates_sans ON certificates USING gin (sans);
CREATE INDEX certificates_tags ON certificates USING gin (tags);
CREATE INDEX target_agents_agent ON target_agents (agent_id);
