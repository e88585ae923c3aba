package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/rollout"
)

// Wish is that a target shall serve a version of a certificate, as of a revision of the
// certificate.
type Wish struct {
	CertificateID, TargetID, VersionID string
	Revision                           int64
}

const (
	noteWished = `INSERT INTO certificates AS c (id, common_name, issuer_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS n (id, common_name, issuer_id) ORDER BY id
ON CONFLICT (id) DO UPDATE SET common_name = c.common_name`
	grantWishes = `INSERT INTO wishes AS w (certificate_id, target_id, revision)
SELECT n.certificate_id, n.target_id, n.revision
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS n (certificate_id, target_id, version_id, revision)
JOIN certificates c ON c.id = n.certificate_id AND NOT c.archived
	AND (c.version_id IS NULL OR c.version_id = n.version_id OR c.version_revision < n.revision)
ORDER BY n.certificate_id, n.target_id
ON CONFLICT (certificate_id, target_id) DO UPDATE SET revision = excluded.revision
WHERE w.revision < excluded.revision
RETURNING certificate_id, target_id`
)

// Granted names a wish that counts.
type Granted struct{ CertificateID, TargetID string }

// GrantWishes keeps versions that somebody wants on targets, and returns the wishes that
// count: neither a newer version nor a later wish has been heard of, and the certificate
// is still managed. The certificates' rows are held. Wishes are at most one a certificate
// and target, versions one a certificate.
func GrantWishes(ctx context.Context, tx pgx.Tx, of []Issued, wishes []Wish) (map[Granted]bool, error) {
	err := apply(
		ctx, tx, noteWished,
		column(of, func(i Issued) string { return i.Certificate.ID }),
		column(of, func(i Issued) string { return i.CommonName }),
		column(of, func(i Issued) string { return i.IssuerID }),
	)
	if err != nil {
		return nil, fmt.Errorf("hold %d certificates: %w", len(of), err)
	}
	if err := insertVersions(ctx, tx, of); err != nil {
		return nil, err
	}
	found, err := collect(
		ctx, tx, pgx.RowToStructByPos[Granted], grantWishes,
		column(wishes, func(w Wish) string { return w.CertificateID }),
		column(wishes, func(w Wish) string { return w.TargetID }),
		column(wishes, func(w Wish) string { return w.VersionID }),
		column(wishes, func(w Wish) int64 { return w.Revision }),
	)
	if err != nil {
		return nil, fmt.Errorf("note %d wishes: %w", len(wishes), err)
	}
	granted := make(map[Granted]bool, len(found))
	for _, g := range found {
		granted[g] = true
	}
	return granted, nil
}

const laterWishes = `SELECT w.certificate_id, w.target_id
FROM unnest($1::text[], $2::bigint[]) AS n (certificate_id, revision)
JOIN wishes w ON w.certificate_id = n.certificate_id AND w.revision > n.revision`

// LaterWishes lists the targets for which something else was wished after a revision of
// their certificate.
func LaterWishes(ctx context.Context, tx pgx.Tx, certificateIDs []string, revisions []int64) (map[Granted]bool, error) {
	found, err := collect(ctx, tx, pgx.RowToStructByPos[Granted], laterWishes, kept, certificateIDs, revisions)
	if err != nil {
		return nil, fmt.Errorf("look for later wishes: %w", err)
	}
	later := make(map[Granted]bool, len(found))
	for _, g := range found {
		later[g] = true
	}
	return later, nil
}

const standing = `SELECT c.archived, $2 = ANY(c.target_ids), coalesce((
	SELECT j.id FROM jobs j JOIN jobs i ON i.id = $3
	WHERE j.certificate_id = c.id AND j.target_id = $2 AND j.type = i.type AND j.id <> i.id AND (j.created_at, j.id) > (i.created_at, i.id)
	ORDER BY j.created_at DESC, j.id DESC LIMIT 1), '')
FROM certificates c WHERE c.id = $1`

// Standing is what has become of the purpose of a job that ended.
type Standing struct {
	// Archived tells that the certificate is no longer managed, Wanted that it is still
	// to be on the target.
	Archived, Wanted bool
	// Later is a job that took its place, if one did.
	Later string
}

// hold holds a certificate, so that nothing is planned for it beside. What is read after
// it sees what was committed while it waited.
func hold(ctx context.Context, tx pgx.Tx, certificateID string) error {
	if _, err := tx.Exec(ctx, `SELECT FROM certificates WHERE id = $1 FOR UPDATE`, certificateID); err != nil {
		return fmt.Errorf("hold certificate %s: %w", certificateID, err)
	}
	return nil
}

// JobStanding holds a job's certificate, and tells what has become of the job's purpose.
func JobStanding(ctx context.Context, tx pgx.Tx, j *rollout.Job) (Standing, error) {
	var s Standing
	if err := hold(ctx, tx, j.CertificateID); err != nil {
		return s, err
	}
	err := tx.QueryRow(ctx, standing, j.CertificateID, j.TargetID, j.ID).Scan(&s.Archived, &s.Wanted, &s.Later)
	if err != nil {
		return s, fmt.Errorf("see what became of job %s: %w", j.ID, err)
	}
	return s, nil
}

// What is to be served is what was last to be installed, however that went, unless it was called off.
const expectations = `SELECT n.id, coalesce((
		SELECT j.version_id FROM jobs j
		WHERE j.certificate_id = c.id AND j.target_id = n.id AND j.type = 'Deployment' AND j.status <> 'Cancelled'
		ORDER BY j.created_at DESC, j.id DESC LIMIT 1), c.version_id, ''), coalesce((
		SELECT j.id FROM jobs j
		WHERE j.certificate_id = c.id AND j.target_id = n.id AND j.type = 'Validation' AND j.status IN ` + openStates + `
		ORDER BY j.created_at DESC, j.id DESC LIMIT 1), '')
FROM certificates c CROSS JOIN unnest(c.target_ids) WITH ORDINALITY AS n (id, position)
WHERE c.id = $1 AND ($2 = '' OR n.id = $2) ORDER BY n.position`

// Expectation is what a target is to serve of a certificate; VersionID is empty if nothing
// was ever to be installed there. UnderWay is an open job that looks at it, if there is one.
type Expectation struct {
	TargetID, VersionID, UnderWay string
}

// Expectations holds a certificate, and tells whether it is archived and what its targets,
// or one of them, are to serve.
func Expectations(ctx context.Context, tx pgx.Tx, certificateID, targetID string) (of []Expectation, archived bool, err error) {
	if err := hold(ctx, tx, certificateID); err != nil {
		return nil, false, err
	}
	if err := tx.QueryRow(ctx, `SELECT archived FROM certificates WHERE id = $1`, certificateID).Scan(&archived); err != nil {
		return nil, false, fmt.Errorf("read certificate %s: %w", certificateID, err)
	}
	of, err = collect(ctx, tx, pgx.RowToStructByPos[Expectation], expectations, certificateID, targetID)
	if err != nil {
		return nil, false, fmt.Errorf("find what targets of %s are to serve: %w", certificateID, err)
	}
	return of, archived, nil
}

// Installation is a target of a certificate, with what it serves of it.
type Installation struct {
	Target fleet.Target
	// VersionID is what was installed last, empty if nothing was.
	VersionID, Fingerprint string
	DeployedAt             time.Time
	// JobID is the latest job, empty before the first.
	JobID, JobStatus, JobError string
}

const installations = `SELECT t.id, t.name, t.type, t.agent_id, t.config, t.enabled, t.revision, t.created_at, t.updated_at,
	coalesce(d.version_id, ''), coalesce(d.fingerprint_sha256, ''), d.completed_at,
	coalesce(l.id, ''), coalesce(l.status, ''), coalesce(l.last_error, '')
FROM certificates c CROSS JOIN unnest(c.target_ids) WITH ORDINALITY AS n (id, position)
JOIN targets t ON t.id = n.id
LEFT JOIN LATERAL (SELECT j.version_id, j.fingerprint_sha256, j.completed_at FROM jobs j
	WHERE j.certificate_id = c.id AND j.target_id = t.id AND j.type = 'Deployment' AND j.status = 'Completed'
	ORDER BY j.created_at DESC, j.id DESC LIMIT 1) d ON true
LEFT JOIN LATERAL (SELECT j.id, j.status, j.last_error FROM jobs j
	WHERE j.certificate_id = c.id AND j.target_id = t.id AND j.type = 'Deployment'
	ORDER BY j.created_at DESC, j.id DESC LIMIT 1) l ON true
WHERE c.id = $1 ORDER BY n.position`

// Installations lists the targets of a certificate, in its order.
func Installations(ctx context.Context, db Querier, certificateID string) ([]Installation, error) {
	found, err := collect(ctx, db, func(row pgx.CollectableRow) (i Installation, err error) {
		t := &i.Target
		var deployed *time.Time
		err = row.Scan(&t.ID, &t.Name, &t.Type, &t.AgentID, &t.Config, &t.Enabled, &t.Revision, &t.CreatedAt, &t.UpdatedAt,
			&i.VersionID, &i.Fingerprint, &deployed, &i.JobID, &i.JobStatus, &i.JobError)
		i.DeployedAt = orZero(deployed)
		return i, err
	}, installations, certificateID)
	if err != nil {
		return nil, fmt.Errorf("list deployments of %s: %w", certificateID, err)
	}
	return found, nil
}

// KnowsCertificate reports whether a certificate is in the copy. The error is NotFound
// if it is, and outside the scope.
func KnowsCertificate(ctx context.Context, db Querier, id string, scope authn.Scope) (bool, error) {
	where := condition{args: []any{id}}
	where.scope(scope)
	var here, within bool
	err := db.QueryRow(ctx, `SELECT EXISTS (SELECT FROM certificates WHERE id = $1),
	EXISTS (SELECT FROM (VALUES ($1::text)) j (certificate_id)`+where.String()+`)`, where.args...).Scan(&here, &within)
	switch {
	case err != nil:
		return false, fmt.Errorf("look for certificate %s: %w", id, err)
	case here && !within:
		return true, fault.New(fault.NotFound, "there is no certificate %s", id)
	}
	return here, nil
}
