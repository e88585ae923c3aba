package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// Certificate is what the issuer says of a certificate.
type Certificate struct {
	ID          string
	CommonName  string
	IssuerID    string
	TeamID      string
	Environment string
	TargetIDs   []string
	Revision    int64
}

// Newest is a certificate whose newest version has just become known.
type Newest struct {
	CertificateID string
	// TargetIDs is where it is to be deployed; empty also if the certificate is
	// archived.
	TargetIDs []string
}

const noteRequested = `INSERT INTO certificates AS c (id, common_name, issuer_id, team_id, environment, target_ids, revision)
SELECT id, common_name, issuer_id, team_id, environment, string_to_array(targets, ','), revision
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[])
	AS n (id, common_name, issuer_id, team_id, environment, targets, revision)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
	team_id = CASE WHEN excluded.revision >= c.revision OR c.team_id = '' THEN excluded.team_id ELSE c.team_id END,
	environment = CASE WHEN excluded.revision >= c.revision OR c.team_id = '' THEN excluded.environment ELSE c.environment END,
	common_name = CASE WHEN excluded.revision >= c.revision THEN excluded.common_name ELSE c.common_name END,
	issuer_id = CASE WHEN excluded.revision >= c.revision THEN excluded.issuer_id ELSE c.issuer_id END,
	target_ids = CASE WHEN excluded.revision >= c.revision THEN excluded.target_ids ELSE c.target_ids END,
	revision = greatest(c.revision, excluded.revision)`

// NoteRequested keeps what the issuer told of certificates, each at most once. The event
// of a version, which may have come first, says nothing of team and environment.
func NoteRequested(ctx context.Context, tx pgx.Tx, certificates []Certificate) error {
	if len(certificates) == 0 {
		return nil
	}
	err := apply(
		ctx, tx, noteRequested, kept,
		column(certificates, func(c Certificate) string { return c.ID }),
		column(certificates, func(c Certificate) string { return c.CommonName }),
		column(certificates, func(c Certificate) string { return c.IssuerID }),
		column(certificates, func(c Certificate) string { return c.TeamID }),
		column(certificates, func(c Certificate) string { return c.Environment }),
		column(certificates, func(c Certificate) string { return strings.Join(c.TargetIDs, ",") }),
		column(certificates, func(c Certificate) int64 { return c.Revision }),
	)
	if err != nil {
		return fmt.Errorf("note %d certificates: %w", len(certificates), err)
	}
	return nil
}

// Issued is a version and what its event says of its certificate.
type Issued struct {
	Certificate
	Version rollout.Version
}

// The event of an older version changes nothing: a newer one has been heard of. Nor does
// one that is known already, and is told again by a change of its certificate's targets.
// With OFFSET the server does not think of reading all certificates for those few.
const noteIssued = `INSERT INTO certificates AS c
	(id, common_name, issuer_id, target_ids, revision, version_id, version_not_before, version_revision)
SELECT id, common_name, issuer_id, string_to_array(targets, ','), revision, version_id, not_before, revision
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::timestamptz[])
	AS n (id, common_name, issuer_id, targets, revision, version_id, not_before)
WHERE targets <> '' OR EXISTS (SELECT FROM certificates k WHERE k.id = n.id OFFSET 0)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
	common_name = CASE WHEN excluded.revision >= c.revision THEN excluded.common_name ELSE c.common_name END,
	issuer_id = CASE WHEN excluded.revision >= c.revision THEN excluded.issuer_id ELSE c.issuer_id END,
	target_ids = CASE WHEN excluded.revision >= c.revision THEN excluded.target_ids ELSE c.target_ids END,
	revision = greatest(c.revision, excluded.revision),
	version_id = excluded.version_id,
	version_not_before = excluded.version_not_before,
	version_revision = excluded.version_revision
WHERE c.version_id IS NULL OR c.version_id <> excluded.version_id AND (c.version_not_before, c.version_revision, c.version_id)
	< (excluded.version_not_before, excluded.version_revision, excluded.version_id)
RETURNING c.id, CASE WHEN c.archived THEN '{}' ELSE c.target_ids END`

// NoteIssued keeps versions, at most one a certificate, and returns the certificates
// for which they are the newest so far. A certificate that has no targets, and never
// had any, is not kept.
func NoteIssued(ctx context.Context, tx pgx.Tx, issued []Issued) ([]Newest, error) {
	if len(issued) == 0 {
		return nil, nil
	}
	newest, err := collect(
		ctx, tx, pgx.RowToStructByPos[Newest], noteIssued, kept,
		column(issued, func(i Issued) string { return i.Certificate.ID }),
		column(issued, func(i Issued) string { return i.CommonName }),
		column(issued, func(i Issued) string { return i.IssuerID }),
		column(issued, func(i Issued) string { return strings.Join(i.TargetIDs, ",") }),
		column(issued, func(i Issued) int64 { return i.Certificate.Revision }),
		column(issued, func(i Issued) string { return i.Version.ID }),
		column(issued, func(i Issued) time.Time { return i.Version.NotBefore }),
	)
	if err != nil {
		return nil, fmt.Errorf("note %d issued certificates: %w", len(issued), err)
	}
	return newest, insertVersions(ctx, tx, issued)
}

const insertVersion = `INSERT INTO versions (id, certificate_id, fingerprint_sha256, not_before, not_after, pem_chain, key_agent_id)
SELECT n.* FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[])
	AS n (id, certificate_id, fingerprint, not_before, not_after, pem_chain, key_agent_id)
JOIN certificates c ON c.id = n.certificate_id
ON CONFLICT (id) DO NOTHING`

func insertVersions(ctx context.Context, tx pgx.Tx, issued []Issued) error {
	err := apply(
		ctx, tx, insertVersion, kept,
		column(issued, func(i Issued) string { return i.Version.ID }),
		column(issued, func(i Issued) string { return i.Version.CertificateID }),
		column(issued, func(i Issued) string { return i.Version.Fingerprint }),
		column(issued, func(i Issued) time.Time { return i.Version.NotBefore }),
		column(issued, func(i Issued) time.Time { return i.Version.NotAfter }),
		column(issued, func(i Issued) string { return i.Version.PEMChain }),
		column(issued, func(i Issued) string { return i.Version.KeyAgentID }),
	)
	if err != nil {
		return fmt.Errorf("insert %d versions: %w", len(issued), err)
	}
	return nil
}

const versionsByID = `SELECT v.id, v.certificate_id, v.fingerprint_sha256, v.not_before, v.not_after, v.pem_chain, v.key_agent_id
FROM versions v WHERE v.id = ANY($1)`

// Versions reads versions by id. Their Revision is not known any more.
func Versions(ctx context.Context, db Querier, ids []string) (map[string]rollout.Version, error) {
	found, err := collect(ctx, db, func(row pgx.CollectableRow) (v rollout.Version, err error) {
		err = row.Scan(&v.ID, &v.CertificateID, &v.Fingerprint, &v.NotBefore, &v.NotAfter, &v.PEMChain, &v.KeyAgentID)
		return v, err
	}, versionsByID, ids)
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	versions := make(map[string]rollout.Version, len(found))
	for _, v := range found {
		versions[v.ID] = v
	}
	return versions, nil
}

const noteArchived = `INSERT INTO certificates AS c (id, archived)
SELECT DISTINCT id, true FROM unnest($1::text[]) AS n (id) ORDER BY id
ON CONFLICT (id) DO UPDATE SET archived = true`

// NoteArchived marks certificates as no longer managed, also one that was not heard of
// before: what is said of it may still be on its way.
func NoteArchived(ctx context.Context, tx pgx.Tx, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	if err := apply(ctx, tx, noteArchived, ids); err != nil {
		return fmt.Errorf("note %d archived certificates: %w", len(ids), err)
	}
	return nil
}
