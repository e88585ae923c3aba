-- +goose Up
-- The settings of an issuer that are secret, as one sealed JSON object bound to the issuer's id; config says "(secret)"
-- in their place. NULL if there are none.
ALTER TABLE issuers
	ADD COLUMN sealed_settings bytea;
