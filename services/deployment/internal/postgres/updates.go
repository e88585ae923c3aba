package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Update is what is said of a certificate whose record was changed.
type Update struct {
	Certificate
	// TeamBefore and EnvironmentBefore are what the change changed; nil if it left them.
	TeamBefore, EnvironmentBefore *string
}

// Added is a certificate that has further targets.
type Added struct {
	CertificateID string
	VersionID     string
	TargetIDs     []string
}

// A certificate without targets is not kept, so one that gets its first may be new here.
const makeRoom = `INSERT INTO certificates (id)
SELECT id FROM unnest($1::text[], $2::text[]) AS n (id, targets) WHERE targets <> '' ORDER BY id
ON CONFLICT (id) DO NOTHING`

// The event of a version says nothing of team and environment, and yet raises the
// revision. So news of them that comes behind it is known by what it changed.
const noteUpdated = `WITH n AS (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[])
		AS n (id, common_name, issuer_id, team_id, environment, targets, revision, team_before, environment_before)
), old AS (
	SELECT c.id, c.target_ids, c.revision, c.team_id = '' AS untold FROM certificates c JOIN n ON n.id = c.id
	ORDER BY c.id FOR UPDATE OF c
)
UPDATE certificates c SET
	team_id = CASE WHEN n.revision >= old.revision OR old.untold OR c.team_id = n.team_before THEN n.team_id ELSE c.team_id END,
	environment = CASE WHEN n.revision >= old.revision OR old.untold OR c.environment = n.environment_before
		THEN n.environment ELSE c.environment END,
	common_name = CASE WHEN n.revision >= old.revision THEN n.common_name ELSE c.common_name END,
	issuer_id = CASE WHEN n.revision >= old.revision THEN n.issuer_id ELSE c.issuer_id END,
	target_ids = CASE WHEN n.revision >= old.revision THEN string_to_array(n.targets, ',') ELSE c.target_ids END,
	revision = greatest(old.revision, n.revision)
FROM n JOIN old ON old.id = n.id
WHERE c.id = n.id
RETURNING c.id, coalesce(c.version_id, ''), CASE WHEN c.archived OR c.version_id IS NULL THEN '{}'
	ELSE ARRAY(SELECT unnest(c.target_ids) EXCEPT SELECT unnest(old.target_ids) ORDER BY 1) END`

// NoteUpdated keeps what the issuer told of changed certificates, each at most once, and
// returns those that have a version and targets that they did not have before.
func NoteUpdated(ctx context.Context, tx pgx.Tx, updates []Update) ([]Added, error) {
	if len(updates) == 0 {
		return nil, nil
	}
	ids := column(updates, func(u Update) string { return u.ID })
	targets := column(updates, func(u Update) string { return strings.Join(u.TargetIDs, ",") })
	if err := apply(ctx, tx, makeRoom, ids, targets); err != nil {
		return nil, fmt.Errorf("note %d changed certificates: %w", len(updates), err)
	}
	noted, err := collect(
		ctx, tx, pgx.RowToStructByPos[Added], noteUpdated, ids,
		column(updates, func(u Update) string { return u.CommonName }),
		column(updates, func(u Update) string { return u.IssuerID }),
		column(updates, func(u Update) string { return u.TeamID }),
		column(updates, func(u Update) string { return u.Environment }),
		targets,
		column(updates, func(u Update) int64 { return u.Revision }),
		column(updates, func(u Update) *string { return u.TeamBefore }),
		column(updates, func(u Update) *string { return u.EnvironmentBefore }),
	)
	if err != nil {
		return nil, fmt.Errorf("note %d changed certificates: %w", len(updates), err)
	}
	added := noted[:0]
	for _, a := range noted {
		if len(a.TargetIDs) > 0 {
			added = append(added, a)
		}
	}
	return added, nil
}

const cancelDropped = `WITH doomed AS (
	SELECT j.id, 'target ' || j.target_id || ' is no longer one of the certificate' AS reason
	FROM jobs j JOIN certificates c ON c.id = j.certificate_id
	WHERE j.certificate_id = ANY($1) AND NOT j.target_id = ANY(c.target_ids) AND j.status IN ` + openStates + `
	ORDER BY j.id FOR UPDATE OF j
` + endDoomed

// CancelDropped calls off the jobs, and their orders, that lead to targets which their
// certificates no longer have.
func CancelDropped(ctx context.Context, tx pgx.Tx, certificateIDs []string, now time.Time) error {
	if len(certificateIDs) == 0 {
		return nil
	}
	if err := apply(ctx, tx, cancelDropped, certificateIDs, now); err != nil {
		return fmt.Errorf("cancel jobs of targets that %d certificates have lost: %w", len(certificateIDs), err)
	}
	return nil
}
