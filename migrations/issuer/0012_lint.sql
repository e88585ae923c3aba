-- +goose Up
-- How the certificates of a profile are linted, and whether agents keep their keys when they are renewed.
ALTER TABLE certificate_profiles
	ADD COLUMN lint_ruleset text NOT NULL DEFAULT 'rfc' CHECK (lint_ruleset IN ('rfc', 'cabf')),
	ADD COLUMN lint_mode text NOT NULL DEFAULT 'warn' CHECK (lint_mode IN ('warn', 'block')),
	ADD COLUMN lint_ignore text[] NOT NULL DEFAULT '{}',
	ADD COLUMN reuse_key boolean NOT NULL DEFAULT false;

-- What was found when it was issued; null if there was nothing, or nobody looked.
ALTER TABLE certificate_versions ADD COLUMN lint_findings jsonb;
