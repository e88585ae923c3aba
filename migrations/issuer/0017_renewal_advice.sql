-- +goose Up
ALTER TABLE certificates
	-- When the CA of the newest version wants it to be renewed: the moment that was drawn, and the end of the CA's window.
	-- NULL if it has not said.
	ADD COLUMN advised_renewal_at timestamptz,
	ADD COLUMN advised_renewal_until timestamptz;

-- What CAs say about the renewal of newest versions (RFC 9773), and when they are asked next.
CREATE TABLE renewal_advice (
	certificate_id text PRIMARY KEY REFERENCES certificates (id) ON DELETE CASCADE,
	version_id text NOT NULL,
	-- The window, and the moment in it that was drawn; NULL until the CA has said.
	window_start timestamptz,
	window_end timestamptz,
	renew_at timestamptz,
	explanation_url text NOT NULL DEFAULT '',
	told_at timestamptz,
	-- NULL if nobody asks any more.
	next_ask_at timestamptz,
	-- How often the CA has not answered since it last did, and why.
	failures integer NOT NULL DEFAULT 0,
	last_error text NOT NULL DEFAULT ''
);
CREATE INDEX renewal_advice_due ON renewal_advice (next_ask_at) WHERE next_ask_at IS NOT NULL;

-- ACME is the only protocol by which CAs advise.
-- +goose StatementBegin
CREATE FUNCTION seek_renewal_advice() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	INSERT INTO renewal_advice (certificate_id, version_id, next_ask_at)
	SELECT DISTINCT ON (m.certificate_id) m.certificate_id, m.id, now()
	FROM made m JOIN issuers i ON i.id = m.issuer_id AND i.type = 'ACME'
	ORDER BY m.certificate_id, m.created_at DESC
	ON CONFLICT (certificate_id) DO UPDATE SET version_id = EXCLUDED.version_id, window_start = NULL, window_end = NULL, renew_at = NULL,
		explanation_url = '', told_at = NULL, next_ask_at = EXCLUDED.next_ask_at, failures = 0, last_error = '';
	RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER certificate_versions_made AFTER INSERT ON certificate_versions
	REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION seek_renewal_advice();

-- As before, and no later than the CA wants.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION schedule_certificate() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'INSERT' OR NEW.version_id <> OLD.version_id OR NEW.expires_at <> OLD.expires_at THEN
		NEW.alerted_days := NULL;
		NEW.advised_renewal_at := NULL;
		NEW.advised_renewal_until := NULL;
	END IF;
	NEW.next_action_at := CASE WHEN NEW.version_id <> '' AND NEW.status NOT IN ('Revoked', 'Archived')
		THEN LEAST(COALESCE(NEW.expires_at - renewal_lead(NEW.renewal_policy_id), 'epoch'), NEW.advised_renewal_at) END;
	RETURN NEW;
END $$;
-- +goose StatementEnd

-- Those that are there are asked about within the hour.
INSERT INTO renewal_advice (certificate_id, version_id, next_ask_at)
SELECT c.id, c.version_id, now() + random() * interval '1 hour'
FROM certificates c JOIN certificate_versions v ON v.id = c.version_id JOIN issuers i ON i.id = v.issuer_id AND i.type = 'ACME'
WHERE c.status NOT IN ('Revoked', 'Archived');

-- The key that is to take the place of the account's, sealed likewise. While there is one, the CA may know either.
ALTER TABLE acme_accounts ADD COLUMN next_sealed_key bytea;
