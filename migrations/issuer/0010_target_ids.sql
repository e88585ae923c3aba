-- +goose Up
-- The targets of a certificate in their order, repeated with it because every list and every look shows them: read from
-- certificate_targets they were a third of what a page of a list cost. Triggers keep them, so nobody who writes a target
-- has to remember.
ALTER TABLE certificates ADD COLUMN target_ids text[] NOT NULL DEFAULT '{}';
UPDATE certificates c SET target_ids = t.ids
FROM (SELECT certificate_id, array_agg(target_id ORDER BY position) AS ids FROM certificate_targets GROUP BY certificate_id) t
WHERE t.certificate_id = c.id;

-- +goose StatementBegin
CREATE FUNCTION repeat_target_ids() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	UPDATE certificates c SET target_ids =
		ARRAY(SELECT t.target_id FROM certificate_targets t WHERE t.certificate_id = c.id ORDER BY t.position)
	WHERE c.id = ANY (ARRAY(SELECT certificate_id FROM changed));
	RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER certificate_targets_added AFTER INSERT ON certificate_targets
	REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION repeat_target_ids();
CREATE TRIGGER certificate_targets_removed AFTER DELETE ON certificate_targets
	REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION repeat_target_ids();
-- +goose StatementBegin
CREATE FUNCTION repeat_moved_target_ids() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	UPDATE certificates c SET target_ids =
		ARRAY(SELECT t.target_id FROM certificate_targets t WHERE t.certificate_id = c.id ORDER BY t.position)
	WHERE c.id = NEW.certificate_id;
	RETURN NULL;
END $$;
-- +goose StatementEnd
-- What a target serves is noted far more often, and changes nothing here.
CREATE TRIGGER certificate_targets_moved AFTER UPDATE ON certificate_targets FOR EACH ROW
	WHEN (NEW.position <> OLD.position) EXECUTE FUNCTION repeat_moved_target_ids();
