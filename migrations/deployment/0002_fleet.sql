-- +goose Up
-- What an agent says of its address is any text; only an address can lie in a network.
-- +goose StatementBegin
CREATE FUNCTION address(said text) RETURNS inet LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
	RETURN said::inet;
EXCEPTION WHEN invalid_text_representation THEN
	RETURN NULL;
END $$;
-- +goose StatementEnd

-- An empty criterion is none. An agent has to meet all that are set; without any, only members by hand belong.
CREATE TABLE agent_groups (
	id text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
	name text NOT NULL CONSTRAINT agent_groups_name UNIQUE,
	description text NOT NULL DEFAULT '',
	match_os text NOT NULL DEFAULT '',
	match_architecture text NOT NULL DEFAULT '',
	match_ip_cidr text NOT NULL DEFAULT '' CHECK (CASE WHEN match_ip_cidr = '' THEN true ELSE match_ip_cidr::cidr IS NOT NULL END),
	match_version text NOT NULL DEFAULT '',
	enabled boolean NOT NULL DEFAULT true,
	revision bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL
);
CREATE INDEX agent_groups_newest ON agent_groups (created_at DESC, id DESC);

-- Said by hand, and stronger than the criteria.
CREATE TABLE agent_group_members (
	group_id text NOT NULL REFERENCES agent_groups ON DELETE CASCADE,
	agent_id text NOT NULL REFERENCES agents,
	membership_type text NOT NULL CHECK (membership_type IN ('include', 'exclude')),
	created_at timestamptz NOT NULL,
	PRIMARY KEY (group_id, agent_id)
);
CREATE INDEX agent_group_members_agent ON agent_group_members (agent_id);

ALTER TABLE agent_work DROP CONSTRAINT agent_work_verb_check,
	ADD CONSTRAINT agent_work_verb_check CHECK (verb IN ('keyrequest', 'deploy', 'verify'));

-- Lists by what targets are filtered on.
CREATE INDEX targets_type ON targets (type, created_at DESC, id DESC);

-- The jobs of one certificate on one target, newest first: what the target serves, and which job has the last word.
CREATE INDEX jobs_place ON jobs (certificate_id, target_id, created_at DESC, id DESC);

-- Keys of leaves whose site has enrolled another one.
CREATE TABLE replaced_leaves (
	public_key text PRIMARY KEY,
	site_id text NOT NULL REFERENCES sites,
	-- When to ask again for the revocation of the key; null once it is had.
	revoke_at timestamptz,
	revoke_attempts integer NOT NULL DEFAULT 0,
	revoked_at timestamptz,
	CHECK ((revoke_at IS NULL) = (revoked_at IS NOT NULL))
);
CREATE INDEX replaced_leaves_due ON replaced_leaves (revoke_at) WHERE revoke_at IS NOT NULL;
CREATE INDEX enrolment_tokens_unused ON enrolment_tokens (site_id) WHERE kind = 'site' AND used_at IS NULL;

-- Up to which of its revisions a certificate's wish for a target has been heard: the newest wish counts, in whatever order
-- they come.
CREATE TABLE wishes (
	certificate_id text NOT NULL REFERENCES certificates,
	target_id text NOT NULL,
	revision bigint NOT NULL,
	PRIMARY KEY (certificate_id, target_id)
);
