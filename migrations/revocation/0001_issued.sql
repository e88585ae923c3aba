-- +goose Up
-- Issuers, as far as relying parties need to know them: a copy fed by events.
CREATE TABLE issuers (
    id           text PRIMARY KEY,
    name         text NOT NULL,
    type         text NOT NULL,
    ca_chain_pem text NOT NULL,
    signs_crl    boolean NOT NULL,
    version      bigint NOT NULL
);

-- Every serial number that an issuer has issued. What is not here was not issued by us.
CREATE TABLE issued_serials (
    issuer_id      text NOT NULL,
    serial_number  text NOT NULL,
    certificate_id text NOT NULL,
    version_id     text NOT NULL,
    not_after      timestamptz NOT NULL,
    PRIMARY KEY (issuer_id, serial_number)
);
CREATE INDEX issued_serials_not_after ON issued_serials (not_after);

-- The newest list of each issuer. Its number only ever grows (RFC 5280 section 5.2.3).
CREATE TABLE crls (
    issuer_id   text PRIMARY KEY,
    number      bigint NOT NULL CHECK (number > 0),
    der         bytea NOT NULL,
    this_update timestamptz NOT NULL,
    next_update timestamptz NOT NULL
);

CREATE TABLE inbox (
    consumer    text NOT NULL,
    msg_id      text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, msg_id)
);
CREATE INDEX inbox_received ON inbox (received_at);
