-- +goose Up
-- The key of the CA that signed a version: the authority key identifier of its leaf (RFC 5280 section 4.2.1.1) in lower-case
-- hex, or, where the leaf has none, the subject key identifier of the certificate above it; empty if neither says. NULL is
-- not yet read: versions from before, or of an older replica, are read from their chains by and by.
ALTER TABLE certificate_versions ADD COLUMN authority_key_id text;
CREATE INDEX certificate_versions_authority ON certificate_versions (authority_key_id, certificate_id) WHERE authority_key_id IS NOT NULL;
CREATE INDEX certificate_versions_unread ON certificate_versions (id) WHERE authority_key_id IS NULL;

-- Many certificates that are re-issued in order. A worker holds the row of a campaign while it takes a step of it, and
-- commits the step together with what it says here: what was interrupted is as if it had never been begun.
CREATE TABLE campaigns (
	id text PRIMARY KEY,
	name text NOT NULL,
	status text NOT NULL CHECK (status IN ('Planned', 'Running', 'Paused', 'Stopped', 'Completed')),
	-- Why it is Stopped.
	reason text NOT NULL DEFAULT '',
	rehearsal boolean NOT NULL,
	reuse_csr boolean NOT NULL,
	-- What it is for, as it came.
	selection jsonb NOT NULL,
	-- What a re-issued certificate's record gets; NULL to leave it as it is.
	to_issuer_id text,
	to_profile_id text,
	canary integer NOT NULL,
	wave_size integer NOT NULL,
	pause_between_seconds integer NOT NULL,
	-- NULL is no limit.
	max_failures integer,
	max_failure_percent integer,
	in_flight integer NOT NULL,
	-- What was foreseen when it was made.
	plan jsonb NOT NULL,
	requested_by text NOT NULL,
	-- The scope of who asked, since an item may have left it by the time it is worked on.
	scope jsonb NOT NULL,
	correlation_id text NOT NULL DEFAULT '',
	trace_parent text NOT NULL DEFAULT '',
	-- How many items are in which state. Of a rehearsal, done are those that would pass, and failed those that would not.
	total integer NOT NULL,
	pending integer NOT NULL,
	renewing integer NOT NULL DEFAULT 0,
	issued integer NOT NULL DEFAULT 0,
	done integer NOT NULL DEFAULT 0,
	failed integer NOT NULL DEFAULT 0,
	skipped integer NOT NULL DEFAULT 0,
	-- The wave that is worked on, and the last; 0 is the canary. Nothing of a wave begins before wave_ready_at.
	wave integer NOT NULL,
	last_wave integer NOT NULL,
	wave_ready_at timestamptz,
	-- When it was last set going, and what had ended by then: failures before that are forgiven, and speed counts from there.
	resumed_at timestamptz,
	base_done integer NOT NULL DEFAULT 0,
	base_failed integer NOT NULL DEFAULT 0,
	base_wave integer NOT NULL DEFAULT 0,
	-- Grows with every event that tells of it: ce-aggversion.
	revision bigint NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL,
	started_at timestamptz,
	completed_at timestamptz,
	CHECK (total = pending + renewing + issued + done + failed + skipped),
	CHECK ((status IN ('Stopped', 'Completed')) = (completed_at IS NOT NULL))
);
CREATE INDEX campaigns_open ON campaigns (id) WHERE status = 'Running' OR renewing + issued > 0;
CREATE INDEX campaigns_created ON campaigns (created_at, id);
CREATE INDEX campaigns_requester ON campaigns (requested_by, created_at, id);

CREATE TABLE campaign_waves (
	campaign_id text NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
	number integer NOT NULL,
	total integer NOT NULL,
	pending integer NOT NULL,
	renewing integer NOT NULL DEFAULT 0,
	issued integer NOT NULL DEFAULT 0,
	done integer NOT NULL DEFAULT 0,
	failed integer NOT NULL DEFAULT 0,
	skipped integer NOT NULL DEFAULT 0,
	started_at timestamptz,
	completed_at timestamptz,
	PRIMARY KEY (campaign_id, number),
	CHECK (total = pending + renewing + issued + done + failed + skipped)
);

CREATE TABLE campaign_items (
	campaign_id text NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
	position integer NOT NULL,
	-- -1 if it was skipped when the campaign was made.
	wave integer NOT NULL,
	certificate_id text NOT NULL,
	-- As they were when the campaign was made.
	owner_id text NOT NULL,
	team_id text NOT NULL,
	environment text NOT NULL,
	old_version_id text NOT NULL,
	status text NOT NULL CHECK (status IN ('Pending', 'Renewing', 'Issued', 'Done', 'Failed', 'Skipped', 'WouldPass', 'WouldFail')),
	reason text NOT NULL DEFAULT '',
	job_id text NOT NULL DEFAULT '',
	new_version_id text NOT NULL DEFAULT '',
	begun_at timestamptz,
	ended_at timestamptz,
	PRIMARY KEY (campaign_id, position)
) WITH (fillfactor = 70);
CREATE INDEX campaign_items_status ON campaign_items (campaign_id, status, position);
CREATE INDEX campaign_items_pending ON campaign_items (campaign_id, wave, position) WHERE status = 'Pending';
