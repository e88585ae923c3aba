-- +goose Up
-- What was heard already is known by its own keys.
DROP TABLE inbox;
-- Nobody asks by it.
DROP INDEX issued_serials_not_after;
