-- +goose Up
-- For how long targets may take to serve a new version, until its item counts as failed.
ALTER TABLE campaigns ADD COLUMN serve_within_seconds integer NOT NULL DEFAULT 3600;
ALTER TABLE campaigns ALTER COLUMN serve_within_seconds DROP DEFAULT;
