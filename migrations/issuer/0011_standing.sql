-- +goose Up
-- How the CAs elsewhere stand, what may be asked of them, and the jobs that wait for them.

ALTER TABLE issuers
	-- Zero is the default of internal/standing, and no bound on the rate.
	ADD COLUMN max_concurrent integer NOT NULL DEFAULT 0 CHECK (max_concurrent >= 0),
	ADD COLUMN rate_limit integer NOT NULL DEFAULT 0 CHECK (rate_limit >= 0),
	ADD COLUMN rate_window_seconds integer NOT NULL DEFAULT 3600 CHECK (rate_window_seconds > 0);

-- Apart from issuers, whose revision is what people have changed.
CREATE TABLE issuer_standings (
	issuer_id text PRIMARY KEY REFERENCES issuers (id) ON DELETE CASCADE,
	failures integer NOT NULL DEFAULT 0,
	-- Both are NULL while the circuit is closed.
	opened_at timestamptz,
	retry_at timestamptz,
	last_error text NOT NULL DEFAULT '',
	last_failure_at timestamptz,
	last_success_at timestamptz,
	window_start timestamptz,
	used integer NOT NULL DEFAULT 0
);

ALTER TABLE renewal_policies
	-- Issuers that are asked when the certificate's own is away, in their order.
	ADD COLUMN fallback_issuer_ids text[] NOT NULL DEFAULT '{}',
	ADD COLUMN fallback_after_minutes integer NOT NULL DEFAULT 60 CHECK (fallback_after_minutes >= 0);
CREATE INDEX renewal_policies_fallbacks ON renewal_policies USING gin (fallback_issuer_ids);

ALTER TABLE jobs
	-- Whose CA is being asked, while lease_until lies ahead, or is waited for.
	ADD COLUMN asks text NOT NULL DEFAULT '',
	-- How often in a row the CA was away, and since when.
	ADD COLUMN setbacks integer NOT NULL DEFAULT 0,
	ADD COLUMN waiting_since timestamptz,
	-- What it takes to go on with an order that this issuer's CA has taken for csr_pem.
	ADD COLUMN ca_order bytea,
	ADD COLUMN ca_order_issuer text NOT NULL DEFAULT '';
CREATE INDEX jobs_asks ON jobs (asks) WHERE asks <> '' AND status IN ('Pending', 'Running');
