-- +goose Up
-- Somebody put an older version in the place of the newest on this target: rolled_back_to is that version, and it is wanted
-- there for as long as rolled_back_from is the certificate's newest.
ALTER TABLE certificate_targets ADD COLUMN rolled_back_to text NOT NULL DEFAULT '',
	ADD COLUMN rolled_back_from text NOT NULL DEFAULT '',
	ADD CHECK ((rolled_back_to = '') = (rolled_back_from = ''));
