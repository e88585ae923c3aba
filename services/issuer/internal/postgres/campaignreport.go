package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
)

const (
	ownersReportSQL = `SELECT i.owner_id, COALESCE(w.name, ''), COALESCE(w.email, ''), i.total, i.pending, i.renewing, i.issued, i.done, i.failed, i.skipped, i.held
FROM (SELECT owner_id, count(*) AS total, count(*) FILTER (WHERE status = 'Pending') AS pending,
		count(*) FILTER (WHERE status = 'Renewing') AS renewing, count(*) FILTER (WHERE status = 'Issued') AS issued,
		count(*) FILTER (WHERE status IN ('Done', 'WouldPass')) AS done, count(*) FILTER (WHERE status IN ('Failed', 'WouldFail')) AS failed,
		count(*) FILTER (WHERE status = 'Skipped') AS skipped,
		count(*) FILTER (WHERE status = 'Skipped' AND reason LIKE '%its requester holds the key%') AS held
	FROM campaign_items WHERE campaign_id = $1 GROUP BY owner_id) i
LEFT JOIN owners w ON w.id = i.owner_id ORDER BY i.owner_id`

	// Reasons name the certificate that they are about; without it they are counted together.
	reasonsReportSQL = `SELECT replace(reason, certificate_id, '(id)') AS why, count(*) FROM campaign_items
WHERE campaign_id = $1 AND status = ANY($2) GROUP BY why ORDER BY count(*) DESC, why LIMIT 100`

	failedReportSQL = `SELECT ` + itemColumns + ` FROM ` + itemFrom + `
WHERE i.campaign_id = $1 AND i.status IN ('Failed', 'WouldFail') ORDER BY i.position LIMIT $2`

	durationsReportSQL = `SELECT COALESCE(percentile_disc(0.5) WITHIN GROUP (ORDER BY took), 0), COALESCE(percentile_disc(0.99) WITHIN GROUP (ORDER BY took), 0),
	COALESCE(max(took), 0)
FROM (SELECT extract(epoch FROM ended_at - begun_at)::float8 AS took FROM campaign_items WHERE campaign_id = $1 AND status = 'Done' AND job_id <> '') t`

	authoritiesReportSQL = `SELECT new, issuer_id, COALESCE(authority_key_id, ''), count(*) FROM (
	SELECT false AS new, v.issuer_id, v.authority_key_id FROM campaign_items i JOIN certificate_versions v ON v.id = i.old_version_id WHERE i.campaign_id = $1
	UNION ALL
	SELECT true, v.issuer_id, v.authority_key_id FROM campaign_items i JOIN certificate_versions v ON v.id = i.new_version_id WHERE i.campaign_id = $1
) t GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC, 2, 3 LIMIT 200`

	oldReportSQL = `SELECT count(*) FILTER (WHERE i.status = 'Done'), max(v.not_after) FILTER (WHERE i.status = 'Done'),
	count(*) FILTER (WHERE i.status <> 'Done')
FROM campaign_items i JOIN certificate_versions v ON v.id = i.old_version_id
WHERE i.campaign_id = $1 AND v.not_after > $2`
)

// CampaignReport returns what came of a campaign, NotFound if there is none that the viewer may see. All of it is as of one
// moment.
func (s *Store) CampaignReport(ctx context.Context, v campaign.Viewer, id string, now time.Time) (r campaign.Report, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		r = campaign.Report{At: now}
		if r.Campaign, err = readCampaign(ctx, tx, v, id, ""); err != nil {
			return err
		}
		if r.Waves, err = collect(ctx, tx, scanWave, wavesSQL, id); err != nil {
			return err
		}
		if r.Owners, err = collect(ctx, tx, scanTally, ownersReportSQL, id); err != nil {
			return err
		}
		if r.Failures, err = collect(ctx, tx, scanReason, reasonsReportSQL, id, []string{string(campaign.ItemFailed), string(campaign.ItemWouldFail)}); err != nil {
			return err
		}
		if r.Skipped, err = collect(ctx, tx, scanReason, reasonsReportSQL, id, []string{string(campaign.ItemSkipped)}); err != nil {
			return err
		}
		if r.FailedItems, err = collect(ctx, tx, scanCampaignItem, failedReportSQL, id, campaign.Listed); err != nil {
			return err
		}
		if r.CAs, err = collect(ctx, tx, scanCA, authoritiesReportSQL, id); err != nil {
			return err
		}
		return figuresOf(ctx, tx, &r)
	})
	return r, pg.Fault(err)
}

func figuresOf(ctx context.Context, tx pgx.Tx, r *campaign.Report) error {
	var p50, p99, longest float64
	if err := tx.QueryRow(ctx, durationsReportSQL, r.Campaign.ID).Scan(&p50, &p99, &longest); err != nil {
		return fmt.Errorf("read how long the items of %s took: %w", r.Campaign.ID, err)
	}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	r.Durations = campaign.Durations{P50: seconds(p50), P99: seconds(p99), Longest: seconds(longest)}
	var last *time.Time
	if err := tx.QueryRow(ctx, oldReportSQL, r.Campaign.ID, r.At).Scan(&r.Old.Valid, &last, &r.Old.NotReplaced); err != nil {
		return fmt.Errorf("read the old versions of %s: %w", r.Campaign.ID, err)
	}
	r.Old.LastUntil = orZero(last)
	return nil
}

func scanWave(row pgx.CollectableRow) (campaign.Wave, error) {
	var w campaign.Wave
	var started, completed *time.Time
	err := row.Scan(append(append([]any{&w.Number}, countsInto(&w.Counts)...), &started, &completed)...)
	w.StartedAt, w.CompletedAt = orZero(started), orZero(completed)
	return w, err
}

func scanTally(row pgx.CollectableRow) (campaign.Tally, error) {
	var t campaign.Tally
	err := row.Scan(append(append([]any{&t.Of, &t.Name, &t.Email}, countsInto(&t.Counts)...), &t.KeysHeld)...)
	return t, err
}

func scanReason(row pgx.CollectableRow) (campaign.Reason, error) {
	var r campaign.Reason
	err := row.Scan(&r.Reason, &r.Count)
	return r, err
}

func scanCA(row pgx.CollectableRow) (campaign.CA, error) {
	var a campaign.CA
	err := row.Scan(&a.New, &a.IssuerID, &a.AuthorityKeyID, &a.Certificates)
	return a, err
}

const itemsAfterSQL = `SELECT ` + itemColumns + ` FROM ` + itemFrom + `
WHERE i.campaign_id = $1 AND i.position > $2 ORDER BY i.position LIMIT $3`

// itemRows is how many items are in memory at once.
const itemRows = 1000

// EachCampaignItem hands over the items of a campaign in their order.
func (s *Store) EachCampaignItem(ctx context.Context, id string, each func(*campaign.Item) error) error {
	for after := 0; ; {
		items, err := collect(ctx, s.pool, scanCampaignItem, itemsAfterSQL, id, after, itemRows)
		if err != nil {
			return pg.Fault(err)
		}
		for i := range items {
			if err := each(&items[i]); err != nil {
				return err
			}
			after = items[i].Position
		}
		if len(items) < itemRows {
			return nil
		}
	}
}
