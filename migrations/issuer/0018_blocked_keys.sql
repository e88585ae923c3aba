-- +goose Up
-- Keys that are not certified (any more), by the SHA-256 of their SubjectPublicKeyInfo.
CREATE TABLE blocked_keys (
	-- 64 lower-case hexadecimal digits.
	spki_sha256 text PRIMARY KEY CHECK (spki_sha256 ~ '^[0-9a-f]{64}$'),
	reason text NOT NULL CHECK (reason IN ('keyCompromise', 'weak', 'other')),
	comment text NOT NULL DEFAULT '',
	blocked_by text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX blocked_keys_created ON blocked_keys (created_at, spki_sha256);

-- The revision of all of them, so that a process can tell by one row whether its copy of them is still true.
CREATE TABLE blocked_keys_revision (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	revision bigint NOT NULL DEFAULT 1
);
INSERT INTO blocked_keys_revision DEFAULT VALUES;

-- +goose StatementBegin
CREATE FUNCTION blocked_keys_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	UPDATE blocked_keys_revision SET revision = revision + 1;
	RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER blocked_keys_changed AFTER INSERT OR UPDATE OR DELETE ON blocked_keys
	FOR EACH STATEMENT EXECUTE FUNCTION blocked_keys_changed();
