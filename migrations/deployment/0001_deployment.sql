-- +goose Up
CREATE TABLE sites (
	id text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
	name text NOT NULL CONSTRAINT sites_name UNIQUE,
	status text NOT NULL DEFAULT 'New' CHECK (status IN ('New', 'Connected')),
	-- The nkey of the site's leaf, once it has enrolled.
	public_key text CONSTRAINT sites_public_key UNIQUE,
	connected_at timestamptz,
	-- When to make sure again that the hub holds the site's durable.
	ensure_at timestamptz NOT NULL DEFAULT now(),
	-- Which account JWT the site was last told of; see edge_account.
	account_revision bigint NOT NULL DEFAULT 0,
	revision bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sites_ensure ON sites (ensure_at);
INSERT INTO sites (id, name) VALUES ('site-local', 'local');

-- Secrets are random, so a plain hash of them is enough.
CREATE TABLE enrolment_tokens (
	id text PRIMARY KEY,
	kind text NOT NULL CHECK (kind IN ('agent', 'site')),
	site_id text NOT NULL REFERENCES sites,
	secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
	expires_at timestamptz NOT NULL,
	used_at timestamptz,
	-- Whom the token made. Only the same key is given the same answer again.
	used_key text,
	created_at timestamptz NOT NULL DEFAULT now(),
	CHECK ((used_at IS NULL) = (used_key IS NULL))
);
CREATE INDEX enrolment_tokens_expiry ON enrolment_tokens (expires_at);

CREATE TABLE agents (
	id text PRIMARY KEY,
	site_id text NOT NULL REFERENCES sites,
	public_key text NOT NULL CONSTRAINT agents_public_key UNIQUE,
	name text NOT NULL DEFAULT '',
	hostname text NOT NULL DEFAULT '',
	os text NOT NULL DEFAULT '',
	architecture text NOT NULL DEFAULT '',
	ip_address text NOT NULL DEFAULT '',
	version text NOT NULL DEFAULT '',
	status text NOT NULL CHECK (status IN ('Online', 'Offline', 'Degraded', 'Retired')),
	last_heartbeat_at timestamptz NOT NULL,
	registered_at timestamptz NOT NULL,
	retired_at timestamptz,
	-- When to ask again for the revocation of the key; null when there is nothing to ask.
	revoke_at timestamptz,
	revoke_attempts integer NOT NULL DEFAULT 0,
	revoked_at timestamptz,
	revision bigint NOT NULL DEFAULT 1,
	CHECK ((status = 'Retired') = (retired_at IS NOT NULL)),
	CHECK (revoke_at IS NULL OR status = 'Retired')
) WITH (fillfactor = 50);
-- There is no index on last_heartbeat_at or status: with room on its page and no index to touch, a heartbeat costs a
-- third of what it would else. The few milliseconds in which all agents are looked through for silent ones are fewer.
CREATE INDEX agents_newest ON agents (registered_at DESC, id DESC);
CREATE INDEX agents_site ON agents (site_id);
CREATE INDEX agents_to_revoke ON agents (revoke_at) WHERE revoke_at IS NOT NULL;

CREATE TABLE targets (
	id text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
	name text NOT NULL CONSTRAINT targets_name UNIQUE,
	type text NOT NULL CHECK (type IN ('NGINX', 'Apache', 'HAProxy', 'F5', 'IIS')),
	agent_id text NOT NULL CONSTRAINT targets_agent REFERENCES agents,
	config jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(config) = 'object'),
	enabled boolean NOT NULL DEFAULT true,
	revision bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL
);
CREATE INDEX targets_newest ON targets (created_at DESC, id DESC);
CREATE INDEX targets_agent ON targets (agent_id);

-- A copy of what the issuer tells of certificates that have targets.
CREATE TABLE certificates (
	id text PRIMARY KEY,
	common_name text NOT NULL DEFAULT '',
	issuer_id text NOT NULL DEFAULT '',
	team_id text NOT NULL DEFAULT '',
	environment text NOT NULL DEFAULT '',
	target_ids text[] NOT NULL DEFAULT '{}',
	-- ce-aggversion of the event that last spoke of the targets.
	revision bigint NOT NULL DEFAULT 0,
	archived boolean NOT NULL DEFAULT false,
	-- The newest version: the greatest (not_before, revision, id) that was heard of.
	version_id text,
	version_not_before timestamptz,
	version_revision bigint
);
CREATE INDEX certificates_targets ON certificates USING gin (target_ids) WHERE NOT archived;

CREATE TABLE versions (
	id text PRIMARY KEY,
	certificate_id text NOT NULL REFERENCES certificates,
	fingerprint_sha256 text NOT NULL,
	not_before timestamptz NOT NULL,
	not_after timestamptz NOT NULL,
	pem_chain text NOT NULL,
	-- The agent that holds the key; empty if the request came from elsewhere.
	key_agent_id text NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX versions_certificate ON versions (certificate_id, not_before DESC);

-- The states are those of every service's jobs; a deployment is never AwaitingCSR.
CREATE TABLE jobs (
	id text PRIMARY KEY,
	type text NOT NULL CHECK (type IN ('Deployment', 'Validation')),
	certificate_id text NOT NULL,
	version_id text NOT NULL REFERENCES versions,
	-- The version's; kept here since every report is compared with it.
	fingerprint_sha256 text NOT NULL,
	-- No reference: a job outlives its target.
	target_id text NOT NULL,
	agent_id text NOT NULL DEFAULT '',
	status text NOT NULL CHECK (status IN
		('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running', 'Completed', 'Failed', 'Cancelled')),
	attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
	max_attempts integer NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
	last_error text NOT NULL DEFAULT '',
	-- When the next attempt is due; null while an agent has the order, and once the job has ended.
	next_action_at timestamptz,
	scheduled_at timestamptz NOT NULL,
	started_at timestamptz,
	completed_at timestamptz,
	correlation_id text NOT NULL DEFAULT '',
	trace_parent text NOT NULL DEFAULT '',
	revision bigint NOT NULL DEFAULT 1,
	created_at timestamptz NOT NULL,
	CHECK ((status IN ('Completed', 'Failed', 'Cancelled')) = (completed_at IS NOT NULL)),
	CHECK (next_action_at IS NULL OR status = 'Pending')
);
CREATE UNIQUE INDEX jobs_open ON jobs (target_id, version_id, type)
	WHERE status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running');
CREATE INDEX jobs_due ON jobs (next_action_at) WHERE next_action_at IS NOT NULL;
CREATE INDEX jobs_newest ON jobs (created_at DESC, id DESC);
CREATE INDEX jobs_status ON jobs (status, created_at DESC, id DESC);
CREATE INDEX jobs_certificate ON jobs (certificate_id, created_at DESC, id DESC);

-- Every order that was given to an agent: requests for keys (whose jobs are the issuer's) and deployments.
CREATE TABLE agent_work (
	job_id text NOT NULL,
	attempt integer NOT NULL CHECK (attempt >= 1),
	verb text NOT NULL CHECK (verb IN ('keyrequest', 'deploy')),
	agent_id text NOT NULL REFERENCES agents,
	site_id text NOT NULL,
	certificate_id text NOT NULL,
	state text NOT NULL CHECK (state IN ('Sent', 'Started', 'Done', 'Failed', 'Superseded', 'Expired')),
	-- The signed order, as it is sent again while unanswered; null once it is closed.
	signed bytea,
	sends integer NOT NULL DEFAULT 1,
	-- When an order that is still unanswered is sent again; null once it is closed.
	deadline timestamptz,
	expires_at timestamptz NOT NULL,
	correlation_id text NOT NULL DEFAULT '',
	trace_parent text NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL,
	closed_at timestamptz,
	PRIMARY KEY (job_id, attempt),
	CHECK ((state IN ('Sent', 'Started')) = (closed_at IS NULL)),
	CHECK ((closed_at IS NULL) = (deadline IS NOT NULL AND signed IS NOT NULL))
);
CREATE INDEX agent_work_due ON agent_work (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX agent_work_open ON agent_work (agent_id) WHERE closed_at IS NULL;
CREATE INDEX agent_work_closed ON agent_work (closed_at) WHERE closed_at IS NOT NULL;

-- The key that signs orders. Agents pin its public half, so there is one and it stays.
CREATE TABLE platform_keys (
	public_key text PRIMARY KEY,
	sealed_seed bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX platform_keys_one ON platform_keys ((true));

-- The newest JWT of account EDGE, with its revocations. Sites whose account_revision is lower are told of it.
CREATE TABLE edge_account (
	singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
	jwt text NOT NULL,
	revision bigint NOT NULL
);

CREATE TABLE outbox (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	msg_id text NOT NULL UNIQUE,
	stream text NOT NULL,
	subject text NOT NULL,
	headers jsonb NOT NULL,
	body bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	sent_at timestamptz
);
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;

CREATE TABLE inbox (
	consumer text NOT NULL,
	msg_id text NOT NULL,
	received_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (consumer, msg_id)
);
CREATE INDEX inbox_received ON inbox (received_at);
