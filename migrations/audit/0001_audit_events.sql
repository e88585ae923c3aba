-- +goose Up
-- What happened, in one chain. A row's hash covers the row and the hash before it, so
-- a row that is changed, taken out or put in is found by reading the chain.
CREATE TABLE audit_events (
    sequence      bigint PRIMARY KEY CHECK (sequence > 0),
    id            text NOT NULL UNIQUE,
    actor         text NOT NULL,
    actor_type    text NOT NULL CHECK (actor_type IN ('User', 'System', 'Agent')),
    action        text NOT NULL,
    resource_type text NOT NULL,
    resource_id   text NOT NULL,
    -- json, not jsonb: the hash is over this very text.
    details       json NOT NULL,
    happened_at   timestamptz NOT NULL,
    hash          bytea NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE INDEX audit_events_resource ON audit_events (resource_id, sequence DESC);
CREATE INDEX audit_events_resource_type ON audit_events (resource_type, sequence DESC);
CREATE INDEX audit_events_actor ON audit_events (actor, sequence DESC);
CREATE INDEX audit_events_action ON audit_events (action, sequence DESC);

-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER audit_events_no_change BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_events_no_truncate BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Also for who plays the part of a replica, in which triggers rest unless told otherwise.
ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_events_no_change;
ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_events_no_truncate;
-- The runtime role neither owns the table, so it cannot drop the triggers, nor holds
-- the rights that they refuse.
REVOKE UPDATE, DELETE, TRUNCATE ON audit_events FROM certctl_audit;

CREATE TABLE inbox (
    consumer    text NOT NULL,
    msg_id      text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, msg_id)
);
CREATE INDEX inbox_received ON inbox (received_at);
