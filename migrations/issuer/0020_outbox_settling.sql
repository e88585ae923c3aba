-- +goose Up
-- A message leaves the queue when it is on the disk of the bus, which is some time after the bus has acknowledged it.
-- Until then the relay that published it has it, and nobody else may take it before due_at. Nothing has an index on that,
-- so that taking a message writes its row again beside the old one, for which each page keeps room.
ALTER TABLE outbox_queue ADD COLUMN due_at timestamptz NOT NULL DEFAULT '-infinity', SET (fillfactor = 45);

-- Headers are handed on as they are. To take them apart and put them together cost more than to write the row.
ALTER TABLE outbox ALTER COLUMN headers TYPE json;
