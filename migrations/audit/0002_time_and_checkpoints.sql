-- +goose Up
-- Lists are sorted by the time of the events, then by their place, so that a range of time is a range of each index
-- whatever else is asked for. These take the place of the indexes by place alone; min and max of the places within a
-- range are read from the first without the table.
CREATE INDEX audit_events_time ON audit_events (happened_at DESC, sequence DESC);
CREATE INDEX audit_events_resource_time ON audit_events (resource_id, happened_at DESC, sequence DESC);
CREATE INDEX audit_events_resource_type_time ON audit_events (resource_type, happened_at DESC, sequence DESC);
CREATE INDEX audit_events_actor_time ON audit_events (actor, happened_at DESC, sequence DESC);
CREATE INDEX audit_events_action_time ON audit_events (action, happened_at DESC, sequence DESC);
DROP INDEX audit_events_resource;
DROP INDEX audit_events_resource_type;
DROP INDEX audit_events_actor;
DROP INDEX audit_events_action;

-- The key that signs checkpoints, its seed sealed with the platform's sealing key. Outsiders keep its public half, so
-- there is one and it stays.
CREATE TABLE checkpoint_keys (
    -- SubjectPublicKeyInfo in DER.
    public_key  bytea PRIMARY KEY,
    sealed_seed bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX checkpoint_keys_one ON checkpoint_keys ((true));

-- What the end of the chain was at a time, signed. An event before it that is changed, with every hash behind it made
-- anew, contradicts it.
CREATE TABLE audit_checkpoints (
    sequence  bigint PRIMARY KEY CHECK (sequence > 0),
    hash      bytea NOT NULL CHECK (octet_length(hash) = 32),
    signed_at timestamptz NOT NULL,
    -- SHA-256 of the public key.
    key_id    bytea NOT NULL CHECK (octet_length(key_id) = 32),
    signature bytea NOT NULL CHECK (octet_length(signature) = 64)
);

-- As append-only as the chain, see 0001.
CREATE TRIGGER audit_checkpoints_no_change BEFORE UPDATE OR DELETE ON audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_checkpoints_no_truncate BEFORE TRUNCATE ON audit_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE audit_checkpoints ENABLE ALWAYS TRIGGER audit_checkpoints_no_change;
ALTER TABLE audit_checkpoints ENABLE ALWAYS TRIGGER audit_checkpoints_no_truncate;
CREATE TRIGGER checkpoint_keys_no_change BEFORE UPDATE OR DELETE ON checkpoint_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER checkpoint_keys_no_truncate BEFORE TRUNCATE ON checkpoint_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE checkpoint_keys ENABLE ALWAYS TRIGGER checkpoint_keys_no_change;
ALTER TABLE checkpoint_keys ENABLE ALWAYS TRIGGER checkpoint_keys_no_truncate;
REVOKE UPDATE, DELETE, TRUNCATE ON audit_checkpoints, checkpoint_keys FROM certctl_audit;

-- Checkpoints are told of, so that others keep them.
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
