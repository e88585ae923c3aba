-- +goose Up
CREATE TABLE api_keys (
    id           text PRIMARY KEY,
    name         text NOT NULL,
    -- SHA-256 of the key. Keys are random, so no salt or stretching is needed.
    hash         bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    roles        text[] NOT NULL,
    scope        jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz
);

-- Audit records that could not be published at once wait here.
CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    msg_id     text NOT NULL UNIQUE,
    stream     text NOT NULL,
    subject    text NOT NULL,
    headers    jsonb NOT NULL,
    body       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at    timestamptz
);
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;
