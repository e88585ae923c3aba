-- +goose Up
-- Who an issuer is to an ACME CA. An account belongs to one issuer and one directory; replicas that start at once agree on
-- one key by the primary key.
CREATE TABLE acme_accounts (
	issuer_id text NOT NULL REFERENCES issuers (id) ON DELETE CASCADE,
	directory_url text NOT NULL,
	-- Empty until the CA has said how it calls the account.
	account_url text NOT NULL DEFAULT '',
	contact text NOT NULL DEFAULT '',
	-- Sealed with the platform's sealing key and bound to issuer and directory.
	sealed_key bytea NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (issuer_id, directory_url)
);
