-- +goose Up
-- The CAs of an issuer that has had more than one key. Relying parties ask about each under its own id: the issuer's for
-- its first key. An issuer without rows here is one CA by itself. From here on crls.issuer_id is such an id too.
CREATE TABLE authorities (
    id           text PRIMARY KEY,
    issuer_id    text NOT NULL REFERENCES issuers (id) ON DELETE CASCADE,
    key_id       text NOT NULL,
    ca_chain_pem text NOT NULL,
    signs_crl    boolean NOT NULL
);
CREATE INDEX authorities_issuer ON authorities (issuer_id);

-- By which key a certificate was issued: its authority key identifier in lower-case hex. Empty, as of all that were known
-- before, is the issuer's first.
ALTER TABLE issued_serials
    ADD COLUMN authority_key_id text NOT NULL DEFAULT '';
