-- +goose Up
ALTER TABLE api_keys
    -- How the key begins, for people to tell it from others.
    ADD COLUMN prefix         text NOT NULL DEFAULT '',
    ADD COLUMN created_by     text NOT NULL DEFAULT '',
    ADD COLUMN updated_at     timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN revision       bigint NOT NULL DEFAULT 1,
    ADD COLUMN last_used_at   timestamptz,
    -- The hash before the last rotation, good until the overlap ends.
    ADD COLUMN previous_hash  bytea CHECK (octet_length(previous_hash) = 32),
    ADD COLUMN previous_until timestamptz,
    ADD CONSTRAINT api_keys_previous CHECK ((previous_hash IS NULL) = (previous_until IS NULL));

CREATE UNIQUE INDEX api_keys_previous_hash ON api_keys (previous_hash) WHERE previous_hash IS NOT NULL;
CREATE INDEX api_keys_newest ON api_keys (created_at DESC, id DESC);
