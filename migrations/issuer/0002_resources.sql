-- +goose Up
-- How a team is reached, and who is in it: a list of {name, email}, read and written as a whole.
ALTER TABLE teams
	ADD COLUMN email text NOT NULL DEFAULT '',
	ADD COLUMN members jsonb NOT NULL DEFAULT '[]',
	-- Grows with every change that somebody makes; it is the entity tag, and ce-aggversion of TeamChanged.
	ADD COLUMN revision bigint NOT NULL DEFAULT 1;
ALTER TABLE owners
	ADD COLUMN revision bigint NOT NULL DEFAULT 1;
-- Not the column version, which counts what the connector says of itself.
ALTER TABLE issuers
	ADD COLUMN revision bigint NOT NULL DEFAULT 1;

CREATE INDEX teams_created ON teams (created_at, id);
CREATE INDEX teams_name ON teams (name, id);
CREATE INDEX owners_created ON owners (created_at, id);
CREATE INDEX owners_name ON owners (name, id);
-- Takes the place of an index on team_id alone.
CREATE INDEX owners_of_team ON owners (team_id, created_at, id);
DROP INDEX owners_team;
CREATE INDEX issuers_created ON issuers (created_at, id);
