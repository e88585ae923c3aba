-- +goose Up
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

CREATE TABLE teams (
	id text PRIMARY KEY,
	name text NOT NULL,
	description text NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE owners (
	id text PRIMARY KEY,
	name text NOT NULL,
	email text NOT NULL DEFAULT '',
	team_id text NOT NULL REFERENCES teams (id),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX owners_team ON owners (team_id);

CREATE TABLE renewal_policies (
	id text PRIMARY KEY,
	name text NOT NULL,
	auto_renew boolean NOT NULL DEFAULT true,
	renewal_window_days integer NOT NULL DEFAULT 30 CHECK (renewal_window_days > 0),
	max_retries integer NOT NULL DEFAULT 3 CHECK (max_retries >= 0),
	retry_interval_seconds integer NOT NULL DEFAULT 3600 CHECK (retry_interval_seconds > 0),
	alert_thresholds_days integer[] NOT NULL DEFAULT '{30,14,7,0}',
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE issuers (
	id text PRIMARY KEY,
	name text NOT NULL,
	type text NOT NULL,
	-- Without secrets.
	config jsonb NOT NULL DEFAULT '{}',
	enabled boolean NOT NULL DEFAULT true,
	-- What the running connector says of itself; empty before it has been opened.
	ca_chain_pem text NOT NULL DEFAULT '',
	signs_crl boolean NOT NULL DEFAULT false,
	-- Grows with every event that tells of this issuer.
	version bigint NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);

-- The keys of CAs that live here, sealed with the platform's sealing key and bound to the row's id and issuer.
CREATE TABLE ca_keys (
	id text PRIMARY KEY,
	issuer_id text NOT NULL REFERENCES issuers (id),
	active boolean NOT NULL DEFAULT true,
	-- The CA's certificate and those above it, root last.
	chain_pem text NOT NULL,
	sealed_key bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now()
);
-- Replicas that start at once agree on one key by this.
CREATE UNIQUE INDEX ca_keys_active ON ca_keys (issuer_id) WHERE active;

CREATE TABLE certificates (
	id text PRIMARY KEY,
	name text NOT NULL,
	common_name text NOT NULL,
	-- Holds the common name too.
	sans text[] NOT NULL,
	environment text NOT NULL DEFAULT '',
	owner_id text NOT NULL REFERENCES owners (id),
	team_id text NOT NULL REFERENCES teams (id),
	issuer_id text NOT NULL REFERENCES issuers (id),
	renewal_policy_id text NOT NULL REFERENCES renewal_policies (id),
	tags jsonb NOT NULL DEFAULT '{}',
	status text NOT NULL CHECK (status IN
		('Pending', 'Active', 'Expiring', 'Expired', 'RenewalInProgress', 'Failed', 'Revoked', 'Archived')),
	status_reason text NOT NULL DEFAULT '',
	-- Grows with every event that tells of this certificate: ce-aggversion.
	version bigint NOT NULL DEFAULT 1,
	-- The newest version, repeated here because every list sorts or shows it. Before the first, texts are empty and
	-- expires_at is the year 1, as on the wire, so that keyset paging needs no case for NULL.
	version_id text NOT NULL DEFAULT '',
	serial_number text NOT NULL DEFAULT '',
	fingerprint_sha256 text NOT NULL DEFAULT '',
	expires_at timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	last_renewal_at timestamptz,
	last_deployment_at timestamptz,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL
);
CREATE INDEX certificates_created ON certificates (created_at, id);
CREATE INDEX certificates_expires ON certificates (expires_at, id);
CREATE INDEX certificates_common_name ON certificates (common_name, id);
CREATE INDEX certificates_status ON certificates (status, created_at, id);
CREATE INDEX certificates_environment ON certificates (environment, created_at, id);
CREATE INDEX certificates_owner ON certificates (owner_id, created_at, id);
CREATE INDEX certificates_team ON certificates (team_id, created_at, id);
CREATE INDEX certificates_issuer ON certificates (issuer_id, created_at, id);

CREATE TABLE certificate_targets (
	certificate_id text NOT NULL REFERENCES certificates (id),
	target_id text NOT NULL,
	position integer NOT NULL,
	-- The version that the target was last seen to serve, empty before the first.
	version_id text NOT NULL DEFAULT '',
	deployed_at timestamptz,
	PRIMARY KEY (certificate_id, target_id)
);
CREATE INDEX certificate_targets_target ON certificate_targets (target_id);

CREATE TABLE jobs (
	id text PRIMARY KEY,
	type text NOT NULL CHECK (type IN ('Issuance', 'Renewal')),
	certificate_id text NOT NULL REFERENCES certificates (id),
	status text NOT NULL CHECK (status IN
		('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running', 'Completed', 'Failed', 'Cancelled')),
	attempts integer NOT NULL DEFAULT 0,
	max_attempts integer NOT NULL DEFAULT 3,
	-- Who makes the key, once it has been asked; empty if the requester does.
	agent_id text NOT NULL DEFAULT '',
	-- A request that has been accepted and waits to be signed, or has been.
	csr_pem text NOT NULL DEFAULT '',
	version_id text NOT NULL DEFAULT '',
	last_error text NOT NULL DEFAULT '',
	-- When a worker is to look at it; NULL when none is.
	next_action_at timestamptz,
	-- A worker has it until then. Each change of the row raises lease_token, and a change names the token that it has
	-- seen: a worker that lost its lease can do nothing more.
	lease_until timestamptz,
	lease_token bigint NOT NULL DEFAULT 1,
	requested_by text NOT NULL,
	correlation_id text NOT NULL DEFAULT '',
	trace_parent text NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL,
	started_at timestamptz,
	completed_at timestamptz,
	CHECK (next_action_at IS NULL OR status NOT IN ('Completed', 'Failed', 'Cancelled'))
);
CREATE UNIQUE INDEX jobs_open ON jobs (certificate_id)
	WHERE status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running');
CREATE INDEX jobs_due ON jobs (next_action_at) WHERE next_action_at IS NOT NULL;
CREATE INDEX jobs_created ON jobs (created_at, id);
CREATE INDEX jobs_status ON jobs (status, created_at, id);
CREATE INDEX jobs_type ON jobs (type, created_at, id);
CREATE INDEX jobs_certificate ON jobs (certificate_id, created_at, id);

CREATE TABLE certificate_versions (
	id text PRIMARY KEY,
	certificate_id text NOT NULL REFERENCES certificates (id),
	-- However often a job is worked on, it makes one version.
	job_id text NOT NULL UNIQUE REFERENCES jobs (id),
	issuer_id text NOT NULL REFERENCES issuers (id),
	-- Lower-case hex without leading zeros.
	serial_number text NOT NULL,
	fingerprint_sha256 text NOT NULL UNIQUE,
	spki_sha256 text NOT NULL,
	not_before timestamptz NOT NULL,
	not_after timestamptz NOT NULL,
	-- The leaf, then its issuers, without the root.
	pem_chain text NOT NULL,
	csr_pem text NOT NULL,
	key_algorithm text NOT NULL,
	key_size integer NOT NULL,
	created_at timestamptz NOT NULL,
	UNIQUE (issuer_id, serial_number)
) WITH (toast_tuple_target = 8160);
CREATE INDEX certificate_versions_certificate ON certificate_versions (certificate_id, created_at, id);

-- A copy of what deployment says of its targets, fed by events. A target that is gone stays as deleted, so that an
-- older event that arrives late does not bring it back.
CREATE TABLE target_agents (
	target_id text PRIMARY KEY,
	agent_id text NOT NULL,
	enabled boolean NOT NULL,
	deleted boolean NOT NULL DEFAULT false,
	version bigint NOT NULL,
	updated_at timestamptz NOT NULL
);

-- What a fresh installation refers to by default.
INSERT INTO teams (id, name) VALUES ('t-default', 'Default team');
INSERT INTO owners (id, name, team_id) VALUES ('o-default', 'Default owner', 't-default');
INSERT INTO renewal_policies (id, name) VALUES ('rp-default', 'Default renewal policy');
INSERT INTO issuers (id, name, type) VALUES ('iss-local', 'Local CA', 'GenericCA');
