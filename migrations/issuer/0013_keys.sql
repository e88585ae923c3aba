-- +goose Up
-- Versions that came from elsewhere: no job made them and no issuer of ours is known to have, even if its CA has the same
-- name. issuer_name is whom the certificate itself names. Serials are an issuer's, so none of theirs can clash; the
-- fingerprint, which is unique over all, tells a certificate that is here already.
ALTER TABLE certificate_versions
	ADD COLUMN imported boolean NOT NULL DEFAULT false,
	ADD COLUMN issuer_name text NOT NULL DEFAULT '',
	ALTER COLUMN job_id DROP NOT NULL,
	ALTER COLUMN issuer_id DROP NOT NULL,
	ADD CHECK (imported = (job_id IS NULL) AND imported = (issuer_id IS NULL));
-- What dashboards count as issued.
DROP INDEX certificate_versions_created;
CREATE INDEX certificate_versions_created ON certificate_versions (created_at) WHERE NOT imported;

-- Private keys that lie here: those of imported certificates, if that was asked for, and those that are made here for
-- demonstrations. A key belongs to a certificate and to the versions of it that bear its public key. A row stays when
-- its key has gone, so that it can be said what became of it.
CREATE TABLE certificate_keys (
	certificate_id text NOT NULL REFERENCES certificates (id),
	-- Lower-case hex, as in certificate_versions.
	spki_sha256 text NOT NULL,
	-- PKCS #8, sealed with the platform's sealing key and bound to the two columns above.
	sealed_key bytea,
	-- It may leave by an export, again and again.
	exportable boolean NOT NULL,
	-- It was made here; it leaves once.
	made boolean NOT NULL,
	created_at timestamptz NOT NULL,
	gone_at timestamptz,
	gone_why text NOT NULL DEFAULT '',
	PRIMARY KEY (certificate_id, spki_sha256),
	CHECK (NOT (made AND exportable)),
	CHECK ((sealed_key IS NULL) = (gone_at IS NOT NULL))
);
CREATE INDEX certificate_keys_waiting ON certificate_keys (created_at) WHERE made AND sealed_key IS NOT NULL;
