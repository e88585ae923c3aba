-- +goose Up
ALTER TABLE renewal_policies
	-- The share of the lifetime that is left when the window opens; 0 goes by renewal_window_days.
	ADD COLUMN renewal_window_percent integer NOT NULL DEFAULT 0 CHECK (renewal_window_percent BETWEEN 0 AND 95),
	ADD COLUMN retry_max_interval_seconds integer NOT NULL DEFAULT 600 CHECK (retry_max_interval_seconds > 0),
	ADD COLUMN retry_jitter_percent integer NOT NULL DEFAULT 30 CHECK (retry_jitter_percent BETWEEN 0 AND 100),
	ADD COLUMN approval_required boolean NOT NULL DEFAULT false,
	ADD COLUMN approval_expires_after_hours integer NOT NULL DEFAULT 72 CHECK (approval_expires_after_hours > 0),
	-- [{"weekdays": ["Sat"], "start": "22:00", "end": "04:00", "time_zone": "Europe/Berlin"}]
	ADD COLUMN maintenance_windows jsonb NOT NULL DEFAULT '[]',
	-- Where it is not empty, the policy holds for certificates whose agent is in the group, and rp-default for others.
	ADD COLUMN agent_group_id text NOT NULL DEFAULT '',
	-- Grows with each change: ce-aggversion and the entity tag.
	ADD COLUMN revision bigint NOT NULL DEFAULT 1,
	ALTER COLUMN retry_interval_seconds SET DEFAULT 5;
-- What jobs have waited so far, whatever their policy said: a CA that hiccups is asked again in seconds. A renewal that
-- has failed is begun anew the day after.
UPDATE renewal_policies SET retry_interval_seconds = 5 WHERE retry_interval_seconds = 3600;
CREATE INDEX renewal_policies_created ON renewal_policies (created_at, id);
CREATE INDEX renewal_policies_group ON renewal_policies (id) WHERE agent_group_id <> '';

ALTER TABLE certificates
	-- When the engine is to look at it; NULL if there is nothing to come. It is never later than anything falls due. A
	-- look in vain does no harm: it finds out the next time from the rules.
	ADD COLUMN next_action_at timestamptz,
	-- The lowest threshold that people have been told of for the newest version, 0 for its end.
	ADD COLUMN alerted_days integer;
CREATE INDEX certificates_due ON certificates (next_action_at) WHERE next_action_at IS NOT NULL;
CREATE INDEX certificates_renewal_policy ON certificates (renewal_policy_id, created_at, id);

ALTER TABLE jobs
	-- The policy that was in force when it began; empty is the certificate's.
	ADD COLUMN renewal_policy_id text NOT NULL DEFAULT '',
	ADD COLUMN approved_by text NOT NULL DEFAULT '',
	ADD COLUMN approved_at timestamptz,
	ADD COLUMN rejected_by text NOT NULL DEFAULT '',
	-- Of the approval or the rejection.
	ADD COLUMN approval_reason text NOT NULL DEFAULT '';

-- How long before the end of a version anything can fall due: at the first threshold, or when the window opens. NULL is
-- unknown, and calls for a look at once: a share of a lifetime is found out from the version. Whom a policy with a group
-- covers is found out by a look as well, so rp-default counts with it.
-- +goose StatementBegin
CREATE FUNCTION renewal_lead(policy text) RETURNS interval
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
	SELECT CASE WHEN NOT bool_or(p.renewal_window_percent > 0) THEN make_interval(hours => 24 * max(GREATEST(
		p.renewal_window_days, (SELECT COALESCE(max(d), 30) FROM unnest(p.alert_thresholds_days) d)))) END
	FROM renewal_policies own JOIN renewal_policies p ON p.id = own.id OR own.agent_group_id <> '' AND p.id = 'rp-default'
	WHERE own.id = policy
$$;
-- +goose StatementEnd

-- So nobody who writes a version, a state or a policy has to remember that times follow from them.
-- +goose StatementBegin
CREATE FUNCTION schedule_certificate() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	NEW.next_action_at := CASE WHEN NEW.version_id <> '' AND NEW.status NOT IN ('Revoked', 'Archived')
		THEN COALESCE(NEW.expires_at - renewal_lead(NEW.renewal_policy_id), 'epoch') END;
	IF TG_OP = 'INSERT' OR NEW.version_id <> OLD.version_id OR NEW.expires_at <> OLD.expires_at THEN
		NEW.alerted_days := NULL;
	END IF;
	RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER certificates_scheduled BEFORE INSERT ON certificates FOR EACH ROW
	WHEN (NEW.version_id <> '') EXECUTE FUNCTION schedule_certificate();
CREATE TRIGGER certificates_rescheduled BEFORE UPDATE ON certificates FOR EACH ROW
	WHEN (NEW.version_id <> OLD.version_id OR NEW.expires_at <> OLD.expires_at OR NEW.renewal_policy_id <> OLD.renewal_policy_id
		OR NEW.status <> OLD.status AND (NEW.status IN ('Revoked', 'Archived') OR OLD.status IN ('Pending', 'RenewalInProgress', 'Revoked')))
	EXECUTE FUNCTION schedule_certificate();

-- Policies that have changed, and how far the engine has got, in the order of creation, with certificates for which an
-- earlier look is due by that. A policy may hold for very many, so it goes through them by and by.
CREATE TABLE reschedules (
	policy_id text PRIMARY KEY REFERENCES renewal_policies (id) ON DELETE CASCADE,
	created_at timestamptz NOT NULL DEFAULT '-infinity',
	certificate_id text NOT NULL DEFAULT ''
);
-- +goose StatementBegin
CREATE FUNCTION reschedule_policy() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	INSERT INTO reschedules (policy_id)
	SELECT id FROM renewal_policies WHERE id = NEW.id OR NEW.id = 'rp-default' AND agent_group_id <> ''
	ON CONFLICT (policy_id) DO UPDATE SET created_at = DEFAULT, certificate_id = DEFAULT;
	RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER renewal_policies_rescheduled AFTER UPDATE ON renewal_policies FOR EACH ROW
	WHEN ((NEW.auto_renew, NEW.renewal_window_days, NEW.renewal_window_percent, NEW.alert_thresholds_days, NEW.approval_required,
			NEW.maintenance_windows, NEW.agent_group_id)
		IS DISTINCT FROM (OLD.auto_renew, OLD.renewal_window_days, OLD.renewal_window_percent, OLD.alert_thresholds_days, OLD.approval_required,
			OLD.maintenance_windows, OLD.agent_group_id))
	EXECUTE FUNCTION reschedule_policy();

UPDATE certificates SET next_action_at = COALESCE(expires_at - renewal_lead(renewal_policy_id), 'epoch')
WHERE version_id <> '' AND status NOT IN ('Revoked', 'Archived');
