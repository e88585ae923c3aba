-- +goose Up
-- An issuer's CA may have several keys, one after the other.
ALTER TABLE ca_keys
	-- What stands for the key where relying parties ask about what it issued; empty is the issuer's id, for its first key.
	ADD COLUMN place text NOT NULL DEFAULT '',
	-- The request for the certificate of a key whose chain_pem is still empty.
	ADD COLUMN csr_pem text NOT NULL DEFAULT '',
	-- Certificates by an older key, served with what this one issues.
	ADD COLUMN cross_pem text NOT NULL DEFAULT '',
	ADD COLUMN activated_at timestamptz;
UPDATE ca_keys SET activated_at = created_at;
CREATE UNIQUE INDEX ca_keys_first ON ca_keys (issuer_id) WHERE place = '';
CREATE UNIQUE INDEX ca_keys_pending ON ca_keys (issuer_id) WHERE chain_pem = '';
CREATE INDEX ca_keys_issuer ON ca_keys (issuer_id, created_at, id);

ALTER TABLE issuers
	-- What relying parties are told of its keys, once there is more than one.
	ADD COLUMN authorities jsonb NOT NULL DEFAULT '[]',
	-- The issuer that signed its CA's certificate: that one stays as long as this one does.
	ADD COLUMN parent_issuer_id text GENERATED ALWAYS AS (NULLIF(config ->> 'parent_issuer_id', '')) STORED REFERENCES issuers (id),
	-- Of which end of the CA people have been warned, and by which threshold in days, last.
	ADD COLUMN warned_of timestamptz,
	ADD COLUMN warned_threshold integer;
CREATE INDEX issuers_parent ON issuers (parent_issuer_id, created_at, id) WHERE parent_issuer_id IS NOT NULL;

-- Which of its issuer's keys issued a version, empty for the first.
ALTER TABLE certificate_versions
	ADD COLUMN ca_key_id text NOT NULL DEFAULT '';
CREATE INDEX certificate_versions_ca_key ON certificate_versions (ca_key_id, not_after) WHERE ca_key_id <> '';
