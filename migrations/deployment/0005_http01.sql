-- +goose Up
ALTER TABLE agent_work
	DROP CONSTRAINT agent_work_verb_check,
	ADD CONSTRAINT agent_work_verb_check CHECK (verb IN ('keyrequest', 'deploy', 'verify', 'http01')),
	-- What the agent said of an order that it could not carry out, for whoever waits for its answer.
	ADD COLUMN reason text NOT NULL DEFAULT '';
