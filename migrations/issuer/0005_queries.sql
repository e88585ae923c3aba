-- +goose Up
-- Names and common names sort by their bytes, whatever the collation of the database: one index then serves the order,
-- equality and prefixes, and pages do not change with the C library.
ALTER TABLE certificates ADD COLUMN IF NOT EXISTS certificate_profile_id text NOT NULL DEFAULT '';
DROP INDEX certificates_common_name;
CREATE INDEX certificates_common_name ON certificates ((common_name COLLATE "C"), id);
CREATE INDEX certificates_name ON certificates ((name COLLATE "C"), id);
CREATE INDEX certificates_updated ON certificates (updated_at, id);
CREATE INDEX certificates_status_order ON certificates (status, id);
CREATE INDEX certificates_environment_order ON certificates (environment, id);
CREATE INDEX IF NOT EXISTS certificates_profile ON certificates (certificate_profile_id, created_at, id);
-- What search expressions ask besides: suffixes of names, names among several, tags.
CREATE INDEX certificates_suffix ON certificates ((reverse(common_name) COLLATE "C"));
CREATE INDEX certificates_serial ON certificates (serial_number);
CREATE INDEX certificates_sans ON certificates USING gin (sans);
CREATE INDEX certificates_tags ON certificates USING gin (tags);
-- A list shows the targets of each of its rows, in their order: by this without a sort.
CREATE INDEX certificate_targets_order ON certificate_targets (certificate_id, position) INCLUDE (target_id);
CREATE INDEX target_agents_agent ON target_agents (agent_id);

-- One call over many certificates. A worker holds the row of the operation while it works on a batch, and commits the
-- batch together with what became of its items: what was interrupted is as if it had never been begun.
CREATE TABLE bulk_operations (
	id text PRIMARY KEY,
	action text NOT NULL CHECK (action IN ('renew', 'archive', 'reassign')),
	status text NOT NULL CHECK (status IN ('Pending', 'Running', 'Completed', 'Failed', 'Cancelled')),
	-- As it came, to be shown; NULL if the certificates were given by their ids.
	filter jsonb,
	-- What a reassignment sets; NULL to leave it as it is.
	owner_id text,
	team_id text,
	environment text,
	requested_by text NOT NULL,
	-- The scope of who asked, since an item may have left it by the time it is worked on.
	scope jsonb NOT NULL,
	correlation_id text NOT NULL DEFAULT '',
	trace_parent text NOT NULL DEFAULT '',
	total integer NOT NULL,
	pending integer NOT NULL,
	succeeded integer NOT NULL DEFAULT 0,
	refused integer NOT NULL DEFAULT 0,
	cancelled integer NOT NULL DEFAULT 0,
	error text NOT NULL DEFAULT '',
	-- When a batch was last done: operations take turns by it.
	worked_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL,
	started_at timestamptz,
	completed_at timestamptz,
	CHECK (total = pending + succeeded + refused + cancelled),
	CHECK ((status IN ('Completed', 'Failed', 'Cancelled')) = (completed_at IS NOT NULL))
);
CREATE INDEX bulk_operations_open ON bulk_operations (worked_at) WHERE status IN ('Pending', 'Running');
CREATE INDEX bulk_operations_created ON bulk_operations (created_at, id);
CREATE INDEX bulk_operations_requester ON bulk_operations (requested_by, created_at, id);

CREATE TABLE bulk_items (
	operation_id text NOT NULL REFERENCES bulk_operations (id) ON DELETE CASCADE,
	position integer NOT NULL,
	-- No reference: an id that nothing has is refused, and shown so.
	certificate_id text NOT NULL,
	status text NOT NULL CHECK (status IN ('Pending', 'Succeeded', 'Refused', 'Cancelled')),
	reason text NOT NULL DEFAULT '',
	job_id text NOT NULL DEFAULT '',
	PRIMARY KEY (operation_id, position)
);
CREATE INDEX bulk_items_status ON bulk_items (operation_id, status, position);
