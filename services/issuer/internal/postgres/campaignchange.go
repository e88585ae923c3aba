package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/services/issuer/internal/campaign"
)

const saveCampaignSQL = `UPDATE campaigns SET status = $2, reason = $3, total = $4, pending = $5, renewing = $6, issued = $7, done = $8,
	failed = $9, skipped = $10, wave = $11, last_wave = $12, wave_ready_at = $13, resumed_at = $14, base_done = $15, base_failed = $16,
	revision = $17, started_at = $18, completed_at = $19, base_wave = $20
WHERE id = $1`

// saveCampaign writes what may change about a campaign that is held.
func saveCampaign(ctx context.Context, q querier, c *campaign.Campaign) error {
	_, err := q.Exec(ctx, saveCampaignSQL, c.ID, string(c.Status), c.Reason, c.Total, c.Pending, c.Renewing, c.Issued, c.Done, c.Failed, c.Skipped,
		c.Wave, c.Last, orNull(c.ReadyAt), orNull(c.ResumedAt), c.BaseDone, c.BaseFailed, c.Revision, orNull(c.StartedAt), orNull(c.CompletedAt), c.BaseWave)
	if err != nil {
		return fmt.Errorf("change campaign %s: %w", c.ID, err)
	}
	return nil
}

// ChangeCampaign implements [campaign.Store].
func (s *Store) ChangeCampaign(
	ctx context.Context, v campaign.Viewer, id string, decide func(*campaign.Campaign) (campaign.Change, error),
) (c campaign.Campaign, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) error {
		if c, err = readCampaign(ctx, tx, v, id, " FOR UPDATE"); err != nil {
			return err
		}
		change, err := decide(&c)
		if err != nil {
			return err
		}
		if change.Retry {
			if err := retry(ctx, tx, &c, change.Skipped); err != nil {
				return err
			}
		}
		c.Revision++
		if err := saveCampaign(ctx, tx, &c); err != nil {
			return err
		}
		return tell(ctx, tx, c.Revision, change.Fact(&c))
	})
	return c, err
}

const retrySQL = `WITH moved AS (
	SELECT i.position, i.wave, i.status, c.version_id
	FROM campaign_items i JOIN certificates c ON c.id = i.certificate_id WHERE i.campaign_id = $1 AND i.status = ANY($2) FOR UPDATE OF i
), item AS (
	-- Whoever has what was skipped looked at again means it as it is now.
	UPDATE campaign_items i SET status = 'Pending', reason = '', job_id = '', wave = $3, begun_at = NULL, ended_at = NULL,
		old_version_id = CASE moved.status WHEN 'Skipped' THEN moved.version_id ELSE i.old_version_id END
	FROM moved WHERE i.campaign_id = $1 AND i.position = moved.position
)
SELECT wave, status, count(*) FROM moved GROUP BY wave, status`

// retry has items begin again in the wave that is worked on.
func retry(ctx context.Context, tx pgx.Tx, c *campaign.Campaign, skipped bool) error {
	of := []string{string(campaign.ItemFailed)}
	if skipped {
		of = append(of, string(campaign.ItemSkipped))
	}
	rows, err := tx.Query(ctx, retrySQL, c.ID, of, c.Wave)
	if err != nil {
		return fmt.Errorf("retry items of %s: %w", c.ID, err)
	}
	changes := waveChanges{}
	var wave, n int
	var from campaign.ItemStatus
	if _, err := pgx.ForEachRow(rows, []any{&wave, &from, &n}, func() error {
		c.Counts.Move(from, campaign.ItemPending, n)
		// They leave one wave, unless they were in none, and come into another.
		gone := changes.of(wave)
		gone.Move(campaign.ItemPending, from, -n)
		gone.Pending -= n
		gone.Total -= n
		come := changes.of(c.Wave)
		come.Pending += n
		come.Total += n
		return nil
	}); err != nil {
		return fmt.Errorf("retry items of %s: %w", c.ID, err)
	}
	delete(changes, -1)
	if err := changes.save(ctx, tx, c.ID); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE campaign_waves SET completed_at = NULL WHERE campaign_id = $1 AND number = $2`, c.ID, c.Wave)
	return err
}

// waveChanges are by how much the counts of waves change.
type waveChanges map[int]*campaign.Counts

func (w waveChanges) of(wave int) *campaign.Counts {
	if w[wave] == nil {
		w[wave] = &campaign.Counts{}
	}
	return w[wave]
}

const saveWavesSQL = `INSERT INTO campaign_waves AS w (campaign_id, number, ` + countColumns + `)
SELECT $1, i.* FROM unnest($2::int[], $3::int[], $4::int[], $5::int[], $6::int[], $7::int[], $8::int[], $9::int[]) AS i
ON CONFLICT (campaign_id, number) DO UPDATE SET total = w.total + EXCLUDED.total, pending = w.pending + EXCLUDED.pending,
	renewing = w.renewing + EXCLUDED.renewing, issued = w.issued + EXCLUDED.issued, done = w.done + EXCLUDED.done,
	failed = w.failed + EXCLUDED.failed, skipped = w.skipped + EXCLUDED.skipped`

func (w waveChanges) save(ctx context.Context, tx pgx.Tx, campaignID string) error {
	if len(w) == 0 {
		return nil
	}
	var numbers []int
	var counts []campaign.Counts
	for number, c := range w {
		numbers, counts = append(numbers, number), append(counts, *c)
	}
	type row = campaign.Counts
	of := func(field func(*row) int) []int { return column(counts, field) }
	_, err := tx.Exec(ctx, saveWavesSQL, campaignID, numbers,
		of(func(c *row) int { return c.Total }), of(func(c *row) int { return c.Pending }), of(func(c *row) int { return c.Renewing }),
		of(func(c *row) int { return c.Issued }), of(func(c *row) int { return c.Done }), of(func(c *row) int { return c.Failed }),
		of(func(c *row) int { return c.Skipped }))
	if err != nil {
		return fmt.Errorf("count the waves of %s: %w", campaignID, err)
	}
	return nil
}
