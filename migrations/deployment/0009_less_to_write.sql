-- +goose Up
-- An order holds a chain of certificates twice encoded, and stands in the outbox with it. Kept beside is what it says, without
-- the chain, which is the version's: whoever sends the order again signs it again.
ALTER TABLE agent_work ADD COLUMN body bytea;
UPDATE agent_work SET body = convert_to((convert_from(decode(convert_from(signed, 'UTF8')::json->>'payload', 'base64'), 'UTF8')::json->'body')::text, 'UTF8')
	WHERE signed IS NOT NULL;
-- The constraint that an open order has one goes with the column.
ALTER TABLE agent_work DROP COLUMN signed;
ALTER TABLE agent_work ADD CHECK ((closed_at IS NULL) = (deadline IS NOT NULL AND body IS NOT NULL));

-- Agents, versions and certificates are never removed, and whoever writes one of these rows has read, or written, those that it
-- refers to in the same transaction. Looking for them again, row by row, cost more than the rows themselves; it also locked
-- agents that thousands of certificates share, and each version once.
ALTER TABLE agent_work DROP CONSTRAINT agent_work_agent_id_fkey;
ALTER TABLE jobs DROP CONSTRAINT jobs_version_id_fkey;
ALTER TABLE versions DROP CONSTRAINT versions_certificate_id_fkey;
