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
