-- What every schema that publishes or consumes has in its first migration, word for word.
-- This folder is the original: it is run by no service, and a test compares the copies with it.

-- +goose Up
CREATE TABLE outbox (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	msg_id text NOT NULL UNIQUE,
	stream text NOT NULL,
	subject text NOT NULL,
	headers jsonb NOT NULL,
	body bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	sent_at timestamptz
);
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;

CREATE TABLE inbox (
	consumer text NOT NULL,
	msg_id text NOT NULL,
	received_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (consumer, msg_id)
);
CREATE INDEX inbox_received ON inbox (received_at);
