package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/services/issuer/internal/campaign"
)

const underWaySQL = `SELECT position, certificate_id, job_id FROM campaign_items
WHERE campaign_id = $1 AND status IN ('Renewing', 'Issued')`

// How an item that has begun goes on is read from its job and its certificate, so nobody who changes those has to know of
// campaigns.
const followSQL = `WITH now AS (
	SELECT u.position, i.status AS before, i.wave,
		CASE WHEN c.status = 'Archived' THEN 'Skipped'
			WHEN j.status IN ('Failed', 'Cancelled') THEN 'Failed'
			WHEN j.status <> 'Completed' THEN 'Renewing'
			WHEN v.authority_key_id = NULLIF($5, '') OR v.issuer_id = NULLIF($6, '') THEN 'Failed'
			WHEN c.status IN ('Active', 'Expiring') THEN 'Done'
			WHEN c.status IN ('Failed', 'Expired', 'Revoked') OR j.completed_at <= $7 THEN 'Failed'
			ELSE 'Issued' END AS after,
		CASE WHEN c.status = 'Archived' THEN 'it was archived meanwhile'
			WHEN j.status IN ('Failed', 'Cancelled') THEN j.last_error
			WHEN v.authority_key_id = NULLIF($5, '') OR v.issuer_id = NULLIF($6, '')
				THEN 'issuer ' || v.issuer_id || ' has signed it again, with the key or as the issuer that the campaign gets away from'
			WHEN j.status = 'Completed' AND c.status IN ('Failed', 'Expired', 'Revoked') THEN COALESCE(NULLIF(c.status_reason, ''), 'it is ' || c.status)
			WHEN j.completed_at <= $7 AND c.status NOT IN ('Active', 'Expiring') THEN $8
			ELSE '' END AS reason,
		CASE WHEN j.status = 'Completed' THEN j.version_id ELSE i.new_version_id END AS version_id,
		GREATEST(j.completed_at, CASE WHEN c.target_ids <> '{}' THEN c.last_deployment_at END, i.begun_at) AS at
	FROM unnest($2::int[], $3::text[], $4::text[]) AS u (position, certificate_id, job_id)
	JOIN campaign_items i ON i.campaign_id = $1 AND i.position = u.position
	JOIN jobs j ON j.id = u.job_id JOIN certificates c ON c.id = u.certificate_id
	LEFT JOIN certificate_versions v ON v.id = j.version_id
), item AS (
	UPDATE campaign_items i SET status = now.after, reason = now.reason, new_version_id = now.version_id,
		ended_at = CASE WHEN now.reason = $8 THEN $9 WHEN now.after IN ('Done', 'Failed', 'Skipped') THEN now.at END
	FROM now WHERE i.campaign_id = $1 AND i.position = now.position AND now.after <> now.before
)
SELECT wave, before, after, count(*) FROM now WHERE after <> before GROUP BY wave, before, after`

// followItems notes what has become of the items that have begun.
func followItems(ctx context.Context, tx pgx.Tx, c *campaign.Campaign, now time.Time) (waveChanges, error) {
	changes := waveChanges{}
	if c.UnderWay() == 0 {
		return changes, nil
	}
	positions, of := []int{}, [2][]string{}
	rows, err := tx.Query(ctx, underWaySQL, c.ID)
	if err != nil {
		return nil, fmt.Errorf("follow the items of %s: %w", c.ID, err)
	}
	var position int
	var certificateID, jobID string
	if _, err := pgx.ForEachRow(rows, []any{&position, &certificateID, &jobID}, func() error {
		positions = append(positions, position)
		of[0], of[1] = append(of[0], certificateID), append(of[1], jobID)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("follow the items of %s: %w", c.ID, err)
	}
	key, issuer := c.Leaves()
	if rows, err = tx.Query(ctx, followSQL, c.ID, positions, of[0], of[1], key, issuer, now.Add(-c.ServeWithin), c.Unserved(), now); err != nil {
		return nil, fmt.Errorf("follow the items of %s: %w", c.ID, err)
	}
	var wave, n int
	var from, to campaign.ItemStatus
	if _, err := pgx.ForEachRow(rows, []any{&wave, &from, &to, &n}, func() error {
		c.Counts.Move(from, to, n)
		changes.of(wave).Move(from, to, n)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("follow the items of %s: %w", c.ID, err)
	}
	return changes, nil
}
