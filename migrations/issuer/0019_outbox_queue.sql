-- +goose Up
-- Messages are written once and not touched again until they are pruned. What is not published yet stands in a queue:
-- to mark wide rows as sent wrote each of them a second time, with an entry in every index.
CREATE TABLE outbox_queue (
	id bigint PRIMARY KEY,
	stream text NOT NULL
) WITH (
	-- All rows are gone soon after they have come. Their places are found again by vacuuming often, not by how many rows
	-- there are left, and the file is not cut off at its end, which would lock the table.
	autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_threshold = -1,
	autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
INSERT INTO outbox_queue SELECT id, stream FROM outbox WHERE sent_at IS NULL;

-- +goose StatementBegin
CREATE FUNCTION outbox_queue_add() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO outbox_queue SELECT id, stream FROM added;
	RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER outbox_queue_add AFTER INSERT ON outbox
	REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION outbox_queue_add();

-- Ids of messages are unique by how they are made, and nobody looks for one by it.
ALTER TABLE outbox
	DROP COLUMN sent_at,
	DROP CONSTRAINT outbox_msg_id_key,
	-- Bodies with a certificate chain in them gain little by being compressed, and lose by lying apart.
	SET (toast_tuple_target = 8160);

DROP INDEX inbox_received;

-- As in outbox.
ALTER TABLE certificate_versions SET (toast_tuple_target = 8160);
