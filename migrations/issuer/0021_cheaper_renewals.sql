-- +goose Up
-- A renewal changes the row of its certificate three times, with an entry in each of its indexes every time.

-- One index of both finds by either, or by both at once, as well as two did.
DROP INDEX certificates_sans;
DROP INDEX certificates_tags;
CREATE INDEX certificates_words ON certificates USING gin (sans, tags);

-- Lists by status or environment are in the order of creation where these are equal, as lists of one status or environment
-- always were: certificates_status and certificates_environment serve both.
DROP INDEX certificates_status_order;
DROP INDEX certificates_environment_order;

-- Jobs and versions are written by statements that have just found or written the rows that these keys lead to, and rows of
-- certificates and jobs are never deleted: they could not fail. Each check was a query, and a lock on a row that the
-- transaction has locked already. Issuers are deleted, so versions go on naming one that is there.
ALTER TABLE jobs DROP CONSTRAINT jobs_certificate_id_fkey;
ALTER TABLE certificate_versions
	DROP CONSTRAINT certificate_versions_certificate_id_fkey,
	DROP CONSTRAINT certificate_versions_job_id_fkey;

-- renewal_lead of a policy, worked out when a policy changes and not whenever a certificate does.
ALTER TABLE renewal_policies ADD COLUMN lead interval;
-- +goose StatementBegin
CREATE FUNCTION keep_renewal_leads() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	-- That of one policy may follow from another, so those who change policies take turns, each seeing what the one before did.
	PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || '/renewal leads', 0));
	UPDATE renewal_policies SET lead = renewal_lead(id) WHERE lead IS DISTINCT FROM renewal_lead(id);
	RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER renewal_policies_lead
	AFTER INSERT OR UPDATE OF renewal_window_days, renewal_window_percent, alert_thresholds_days, agent_group_id ON renewal_policies
	FOR EACH STATEMENT EXECUTE FUNCTION keep_renewal_leads();
UPDATE renewal_policies SET lead = renewal_lead(id);
-- As before, by the policy's lead.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION schedule_certificate() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'INSERT' OR NEW.version_id <> OLD.version_id OR NEW.expires_at <> OLD.expires_at THEN
		NEW.alerted_days := NULL;
		NEW.advised_renewal_at := NULL;
		NEW.advised_renewal_until := NULL;
	END IF;
	NEW.next_action_at := CASE WHEN NEW.version_id <> '' AND NEW.status NOT IN ('Revoked', 'Archived') THEN LEAST(
		COALESCE(NEW.expires_at - (SELECT lead FROM renewal_policies WHERE id = NEW.renewal_policy_id), 'epoch'), NEW.advised_renewal_at) END;
	RETURN NEW;
END $$;
-- +goose StatementEnd

-- Whoever makes a certificate with its targets writes them into its row at once; only what differs is changed.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION repeat_target_ids() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	UPDATE certificates c SET target_ids = t.ids
	FROM (SELECT DISTINCT certificate_id FROM changed) d, LATERAL (
		SELECT ARRAY(SELECT t.target_id FROM certificate_targets t WHERE t.certificate_id = d.certificate_id ORDER BY t.position) AS ids
	) t
	WHERE c.id = d.certificate_id AND c.target_ids <> t.ids;
	RETURN NULL;
END $$;
-- +goose StatementEnd

-- What a target serves is noted with each renewal; with room on its page a row changes without an entry in any index.
ALTER TABLE certificate_targets SET (fillfactor = 70);
