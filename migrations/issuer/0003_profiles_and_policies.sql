-- +goose Up

-- Rules that the certificates of a profile keep.
CREATE TABLE certificate_profiles (
	id text PRIMARY KEY,
	name text NOT NULL,
	description text NOT NULL DEFAULT '',
	allowed_key_algorithms jsonb NOT NULL,
	-- Zero leaves it to the CA.
	max_ttl_seconds bigint NOT NULL DEFAULT 0 CHECK (max_ttl_seconds >= 0),
	allowed_ekus text[] NOT NULL,
	required_san_patterns text[] NOT NULL DEFAULT '{}',
	spiffe_uri_pattern text NOT NULL DEFAULT '',
	allow_short_lived boolean NOT NULL DEFAULT false,
	enabled boolean NOT NULL DEFAULT false,
	-- Grows with every event that tells of this profile.
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX certificate_profiles_created ON certificate_profiles (created_at, id);

-- Empty is none. It is no foreign key, since an archived certificate outlives its profile; whoever sets it locks the
-- profile's row FOR KEY SHARE, and who removes a profile locks it FOR UPDATE before looking for certificates.
ALTER TABLE certificates ADD COLUMN IF NOT EXISTS certificate_profile_id text NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS certificates_profile ON certificates (certificate_profile_id, created_at, id);

CREATE TABLE policy_rules (
	id text PRIMARY KEY,
	name text NOT NULL,
	type text NOT NULL CHECK (type IN
		('AllowedIssuers', 'AllowedDomains', 'RequiredMetadata', 'AllowedEnvironments', 'RenewalLeadTime')),
	severity text NOT NULL DEFAULT 'Warning' CHECK (severity IN ('Warning', 'Error', 'Critical')),
	config jsonb NOT NULL,
	-- Of the deployment service; empty is every certificate.
	agent_group_id text NOT NULL DEFAULT '',
	enabled boolean NOT NULL DEFAULT false,
	-- Grows with every change of this rule.
	version bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX policy_rules_created ON policy_rules (created_at, id);

-- What broke a rule, once for each value, however often it was found.
CREATE TABLE policy_violations (
	id text PRIMARY KEY,
	rule_id text NOT NULL REFERENCES policy_rules (id) ON DELETE CASCADE,
	-- Empty where the certificate was refused, and therefore never was.
	certificate_id text NOT NULL DEFAULT '',
	-- As the certificate was when this was last found, so that it can be seen by whoever sees the certificate.
	common_name text NOT NULL,
	owner_id text NOT NULL,
	team_id text NOT NULL,
	environment text NOT NULL,
	issuer_id text NOT NULL,
	certificate_profile_id text NOT NULL,
	stage text NOT NULL CHECK (stage IN ('issue', 'renew', 'deploy')),
	severity text NOT NULL,
	blocked boolean NOT NULL,
	message text NOT NULL,
	count bigint NOT NULL DEFAULT 1,
	-- The job in which it was last found, empty if in none: a job that is tried again counts once.
	job_id text NOT NULL DEFAULT '',
	-- The finding of which an event has told last, and when.
	told_by text NOT NULL,
	told_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL,
	last_seen_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX policy_violations_once ON policy_violations (rule_id, certificate_id, common_name, stage, md5(message));
CREATE INDEX policy_violations_rule ON policy_violations (rule_id, created_at, id);
CREATE INDEX policy_violations_certificate ON policy_violations (certificate_id, created_at, id);
CREATE INDEX policy_violations_created ON policy_violations (created_at, id);
CREATE INDEX policy_violations_refused ON policy_violations (last_seen_at) WHERE certificate_id = '';

-- The revision of all rules that certificates are judged by, so that a process can tell by one row whether its copy of
-- them is still true.
CREATE TABLE rulebook (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	revision bigint NOT NULL DEFAULT 1
);
INSERT INTO rulebook DEFAULT VALUES;

-- +goose StatementBegin
CREATE FUNCTION rulebook_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	UPDATE rulebook SET revision = revision + 1;
	RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER certificate_profiles_changed AFTER INSERT OR UPDATE OR DELETE ON certificate_profiles
	FOR EACH STATEMENT EXECUTE FUNCTION rulebook_changed();
CREATE TRIGGER policy_rules_changed AFTER INSERT OR UPDATE OR DELETE ON policy_rules
	FOR EACH STATEMENT EXECUTE FUNCTION rulebook_changed();
CREATE TRIGGER renewal_policies_changed AFTER INSERT OR UPDATE OR DELETE ON renewal_policies
	FOR EACH STATEMENT EXECUTE FUNCTION rulebook_changed();
