-- +goose Up
-- What was asked for with an Idempotency-Key. Rows live for a day.
CREATE TABLE idempotency_keys (
    principal_id text NOT NULL,
    key          text NOT NULL,
    -- SHA-256 of the operation, its target and the body.
    fingerprint  bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    -- While it has no status, the call is in hand until then; afterwards nobody knows what became of it.
    lease_until  timestamptz NOT NULL,
    status       integer,
    -- Sealed, for answers can hold keys that are shown once. NULL if it was not kept.
    answer       bytea,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (principal_id, key)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- Queries that a caller has put by, for itself or for everybody.
CREATE TABLE saved_views (
    id           text PRIMARY KEY,
    principal_id text NOT NULL,
    name         text NOT NULL,
    resource     text NOT NULL CHECK (resource IN ('certificates', 'jobs', 'agents', 'audit')),
    query        jsonb NOT NULL CHECK (jsonb_typeof(query) = 'object'),
    shared       boolean NOT NULL DEFAULT false,
    revision     bigint NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    UNIQUE (principal_id, resource, name)
);
-- The list of what a caller sees is the union of its own and the shared, newest first.
CREATE INDEX saved_views_own ON saved_views (principal_id, created_at DESC, id DESC);
CREATE INDEX saved_views_shared ON saved_views (created_at DESC, id DESC) WHERE shared;
