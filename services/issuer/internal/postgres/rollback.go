package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

// wanted is the version that a target t of a certificate c shall serve: the newest, unless somebody put an older one in
// its place. A version that is newer than the one that was replaced ends that.
const wanted = `CASE WHEN t.rolled_back_from = c.version_id THEN t.rolled_back_to ELSE c.version_id END`

// servedAs is the version that a target ct of a certificate c serves, as issuance.Target has it: where that is the older
// one that is wanted, the newest stands for it.
const servedAs = `CASE WHEN ct.rolled_back_from = c.version_id AND ct.rolled_back_to = ct.version_id THEN c.version_id
	ELSE ct.version_id END`

var deploySQL = `WITH cert AS (
	UPDATE certificates SET version = version + 1, updated_at = $3
	WHERE id = $1 AND version_id = $2 AND status NOT IN ('Archived', 'Revoked')
	RETURNING id, version, version_id
), target AS (
	UPDATE certificate_targets t SET rolled_back_to = CASE WHEN cert.version_id = $4 THEN '' ELSE $4 END,
		rolled_back_from = CASE WHEN cert.version_id = $4 THEN '' ELSE cert.version_id END
	FROM cert WHERE t.certificate_id = cert.id AND t.target_id = ANY($5)
), event AS (
	` + insertEvents("cert", "id", 6) + `
)
SELECT version FROM cert`

// Deploy implements [issuance.Store].
func (s *Store) Deploy(ctx context.Context, d issuance.Deployment) error {
	var told events
	if err := told.add(d.CertificateID, d.Fact, 0); err != nil {
		return err
	}
	eventArgs := told.args()
	args := []any{d.CertificateID, d.Newest, d.Fact.At, d.VersionID, d.TargetIDs}
	var version int64
	err := s.pool.QueryRow(ctx, deploySQL, append(args, eventArgs...)...).Scan(&version)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fault.New(fault.Conflict, "certificate %s changed meanwhile; look at it and try again", d.CertificateID)
	case err != nil:
		return pg.Fault(fmt.Errorf("deploy %s: %w", d.CertificateID, err))
	}
	s.hooks.Told()
	return nil
}

const versionSQL = `SELECT ` + versionColumns + `, COALESCE(j.agent_id, '')
FROM certificate_versions v LEFT JOIN jobs j ON j.id = v.job_id WHERE v.id = $2 AND v.certificate_id = $1`

// Version implements [issuance.Store].
func (s *Store) Version(ctx context.Context, certificateID, id string) (issuance.Version, string, error) {
	var keyAgent string
	v, err := scanVersion(s.pool.QueryRow(ctx, versionSQL, certificateID, id), &keyAgent)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, "", fault.New(fault.NotFound, "there is no version %s of certificate %s", id, certificateID)
	}
	if err != nil {
		return v, "", pg.Fault(fmt.Errorf("read version %s: %w", id, err))
	}
	return v, keyAgent, nil
}
