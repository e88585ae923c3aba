package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
)

const holdCampaignSQL = `SELECT ` + campaignColumns + ` FROM campaigns o
WHERE o.id = $1 AND (o.status = 'Running' OR o.renewing + o.issued > 0)
FOR UPDATE SKIP LOCKED`

// Step implements [campaign.Store]. As with bulk operations, the lock of the row is the lease.
func (s *Store) Step(ctx context.Context, id string, now time.Time, work func(ctx context.Context, step *campaign.Step) error) (bool, error) {
	var held bool
	var starts []issuance.Start
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		held, starts = false, nil
		if _, err := tx.Exec(ctx, batchLease); err != nil {
			return fmt.Errorf("hold campaign %s: %w", id, err)
		}
		c, err := one(ctx, tx, row[campaign.Campaign]{"campaign", id, scanCampaign}, holdCampaignSQL, id)
		if fault.CodeOf(err) == fault.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		held = true
		step, changes, err := s.stepOf(ctx, tx, &c, now)
		if err != nil {
			return err
		}
		before, at := *step.Wave, c.Wave
		if err := work(ctx, step); err != nil {
			return err
		}
		changes.add(at, before, *step.Wave)
		if b := step.Batch; b != nil {
			starts = b.Starts
		}
		return storeStep(ctx, tx, step, at, changes, now)
	})
	if err != nil || !held {
		return false, err
	}
	s.hooks.Told()
	s.begun(starts)
	return true, nil
}

// add notes by how much a wave's counts have changed.
func (w waveChanges) add(wave int, before, after campaign.Counts) {
	if before == after {
		return
	}
	d := w.of(wave)
	d.Total += after.Total - before.Total
	d.Pending += after.Pending - before.Pending
	d.Renewing += after.Renewing - before.Renewing
	d.Issued += after.Issued - before.Issued
	d.Done += after.Done - before.Done
	d.Failed += after.Failed - before.Failed
	d.Skipped += after.Skipped - before.Skipped
}

// stepOf notes what has ended, and returns the campaign as it is then.
func (s *Store) stepOf(ctx context.Context, tx pgx.Tx, c *campaign.Campaign, now time.Time) (*campaign.Step, waveChanges, error) {
	changes, err := followItems(ctx, tx, c, now)
	if err != nil {
		return nil, nil, err
	}
	var wave campaign.Counts
	err = tx.QueryRow(ctx, `SELECT `+countColumns+` FROM campaign_waves WHERE campaign_id = $1 AND number = $2`, c.ID, c.Wave).Scan(countsInto(&wave)...)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, fmt.Errorf("read wave %d of %s: %w", c.Wave, c.ID, err)
	}
	if d := changes[c.Wave]; d != nil {
		wave.Pending += d.Pending
		wave.Renewing += d.Renewing
		wave.Issued += d.Issued
		wave.Done += d.Done
		wave.Failed += d.Failed
		wave.Skipped += d.Skipped
	}
	return &campaign.Step{
		Campaign: c, Wave: &wave,
		Take: func(ctx context.Context, n int) (*campaign.Batch, error) { return takeItems(ctx, tx, c, n) },
	}, changes, nil
}

const nextCampaignItemsSQL = `SELECT position, certificate_id, old_version_id, new_version_id, job_id FROM campaign_items
WHERE campaign_id = $1 AND wave = $2 AND status = 'Pending'
ORDER BY position LIMIT $3`

// takeItems holds the certificates of the next items of a campaign's wave.
func takeItems(ctx context.Context, tx pgx.Tx, c *campaign.Campaign, n int) (*campaign.Batch, error) {
	items, err := collect(ctx, tx, func(row pgx.CollectableRow) (campaign.Item, error) {
		var i campaign.Item
		err := row.Scan(&i.Position, &i.CertificateID, &i.OldVersionID, &i.NewVersionID, &i.JobID)
		return i, err
	}, nextCampaignItemsSQL, c.ID, c.Wave, n)
	if err != nil {
		return nil, err
	}
	ids := column(items, func(i *campaign.Item) string { return i.CertificateID })
	// Held first and read then, so that what is read is what is held.
	if _, err := tx.Exec(ctx, lockSQL, ids); err != nil {
		return nil, fmt.Errorf("hold %d certificates: %w", len(ids), err)
	}
	var still conditions
	if err := still.selected(c.Selection, c.CreatedAt); err != nil {
		return nil, err
	}
	asks := strings.Join(still.parts, " AND ")
	within := conditions{args: still.args}
	of := within.arg(ids)
	within.scope(c.Scope)
	var admitted bool
	scan := selectedScan(&admitted)
	found, err := collect(ctx, tx, func(row pgx.CollectableRow) (campaign.Chosen, error) {
		one, err := scan(row)
		one.Still = admitted
		return one, err
	}, `SELECT `+certificateColumns+chosenVersion+`, COALESCE(`+asks+`, false) FROM `+campaignFrom+` `+workTargets+
		` WHERE c.id = ANY(`+of+`)`+within.and(), within.args...)
	if err != nil {
		return nil, err
	}
	b := &campaign.Batch{Items: items, Certificates: make(map[string]campaign.Chosen, len(found))}
	for _, one := range found {
		b.Certificates[one.ID] = one
	}
	b.Busy, err = busy(ctx, tx, ids)
	return b, err
}

const (
	storeCampaignItemsSQL = `UPDATE campaign_items i SET status = n.status, reason = n.reason, job_id = n.job_id, old_version_id = n.old_version_id,
	begun_at = n.begun_at, ended_at = n.ended_at
FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[])
	AS n (position, status, reason, job_id, old_version_id, begun_at, ended_at)
WHERE i.campaign_id = $1 AND i.position = n.position`

	waveBeginsSQL = `UPDATE campaign_waves SET started_at = COALESCE(started_at, $3) WHERE campaign_id = $1 AND number = $2`
	waveEndsSQL   = `UPDATE campaign_waves SET completed_at = $3 WHERE campaign_id = $1 AND number = $2`
)

// The statement takes the ids, the time, the issuers, the profiles, and the events.
var moveCertificatesSQL = `WITH cert AS (
	UPDATE certificates c SET issuer_id = i.issuer_id, certificate_profile_id = i.profile_id, version = c.version + 1, updated_at = $2
	FROM unnest($1::text[], $3::text[], $4::text[]) AS i (id, issuer_id, profile_id)
	WHERE c.id = i.id
	RETURNING c.id, c.version
)
` + insertEvents("cert", "id", 5)

// storeStep stores what becomes of a campaign, with the events that tell of it. At is the wave that was worked on.
func storeStep(ctx context.Context, tx pgx.Tx, step *campaign.Step, at int, changes waveChanges, now time.Time) error {
	c := step.Campaign
	if step.Batch == nil && len(step.Facts) == 0 && len(changes) == 0 {
		return nil
	}
	if b := step.Batch; b != nil {
		if err := storeCampaignBatch(ctx, tx, c.ID, b); err != nil {
			return err
		}
	}
	if err := changes.save(ctx, tx, c.ID); err != nil {
		return err
	}
	for _, mark := range [...]struct {
		is  bool
		sql string
	}{{step.WaveBegins, waveBeginsSQL}, {step.WaveEnds, waveEndsSQL}} {
		if !mark.is {
			continue
		}
		if _, err := tx.Exec(ctx, mark.sql, c.ID, at, now); err != nil {
			return fmt.Errorf("note wave %d of %s: %w", at, c.ID, err)
		}
	}
	first := c.Revision + 1
	c.Revision += int64(len(step.Facts))
	if err := saveCampaign(ctx, tx, c); err != nil {
		return err
	}
	return tell(ctx, tx, first, step.Facts...)
}

func storeCampaignBatch(ctx context.Context, tx pgx.Tx, campaignID string, b *campaign.Batch) error {
	if err := moveCertificates(ctx, tx, b.Moved); err != nil {
		return err
	}
	if len(b.Starts) > 0 {
		begun, err := begin(ctx, tx, b.Starts)
		if err != nil {
			return err
		}
		if len(begun) != len(b.Starts) {
			return fault.New(fault.Internal, "%d of %d renewals were begun of certificates that are held", len(begun), len(b.Starts))
		}
	}
	if err := putOnRecord(ctx, tx, b.Breaches); err != nil {
		return err
	}
	type row = campaign.Item
	_, err := tx.Exec(ctx, storeCampaignItemsSQL, campaignID,
		column(b.Items, func(i *row) int { return i.Position }),
		column(b.Items, func(i *row) string { return string(i.Status) }),
		column(b.Items, func(i *row) string { return i.Reason }),
		column(b.Items, func(i *row) string { return i.JobID }),
		column(b.Items, func(i *row) string { return i.OldVersionID }),
		column(b.Items, func(i *row) *time.Time { return orNull(i.BegunAt) }),
		column(b.Items, func(i *row) *time.Time { return orNull(i.EndedAt) }))
	if err != nil {
		return fmt.Errorf("note %d items of %s: %w", len(b.Items), campaignID, err)
	}
	return nil
}

func moveCertificates(ctx context.Context, tx pgx.Tx, moved []campaign.Moved) error {
	if len(moved) == 0 {
		return nil
	}
	var told events
	for _, m := range moved {
		if err := told.add(m.CertificateID, m.Fact, 0); err != nil {
			return err
		}
	}
	eventArgs := told.args()
	type row = campaign.Moved
	args := append([]any{
		column(moved, func(m *row) string { return m.CertificateID }), moved[0].Fact.At,
		column(moved, func(m *row) string { return m.IssuerID }), column(moved, func(m *row) string { return m.ProfileID }),
	}, eventArgs...)
	if _, err := tx.Exec(ctx, moveCertificatesSQL, args...); err != nil {
		if pg.IsForeignKey(err) {
			return fault.Wrap(err, fault.Conflict, "the issuer that the certificates are to have is gone")
		}
		return fmt.Errorf("move %d certificates to another issuer or profile: %w", len(moved), err)
	}
	return nil
}
