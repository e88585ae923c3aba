-- +goose Up
-- A CA's key may be in a PKCS#11 token instead; then its row says by which label it is found there. A key in the token
-- serves one issuer: another one's certificate would not say whom it speaks for.
ALTER TABLE ca_keys
	ALTER COLUMN sealed_key DROP NOT NULL,
	ADD COLUMN token_key text,
	ADD CONSTRAINT ca_keys_somewhere CHECK ((sealed_key IS NULL) <> (token_key IS NULL));
CREATE UNIQUE INDEX ca_keys_token ON ca_keys (token_key) WHERE token_key IS NOT NULL;
