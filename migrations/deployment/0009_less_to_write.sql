-- +goose Up
-- An order holds a chain of certificates twice encoded, and stands in the outbox with it. Kept beside is what it says, without
-- the chain, which is the version's: whoever sends the order again signs it again.
ALTER TABLE agent_work ADD COLUMN body bytea;
UPDATE agent_work SET body = convert_to((convert_from(decode(convert_from(signed, 'UTF8')::json->>'payload', 'base64'), 'UTF8')::json->'body')::text, 'UTF8')
	WHERE signed IS NOT NULL;
-- The constraint that an open order has one goes with the column.
ALTER TABLE agent_work DROP COLUMN signed;
ALTER TABLE agent_work ADD CHECK ((closed_at IS NULL) = (deadline IS NOT NULL AND body IS NOT NULL));
