package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
)

// verdictSQL says why a certificate is skipped as soon as it is chosen, empty if it is not. $6 tells whether requests are
// used again.
const verdictSQL = `CASE
	WHEN c.status = 'Archived' THEN 'certificate ' || c.id || ' is archived, and archived certificates are never renewed'
	WHEN c.status = 'Revoked' THEN 'certificate ' || c.id || ' is revoked, and revoked certificates are never renewed; make a new one'
	WHEN c.target_ids = '{}' AND NOT $6::boolean THEN 'its requester holds the key; tell them'
	WHEN c.target_ids = '{}' AND COALESCE(v.csr_pem, '') = '' THEN 'its request was not kept, and its requester holds the key; tell them'
	ELSE '' END`

// createCampaignSQL stores a campaign with its items, which are divided into waves in the order in which they end: first
// those that make up the canary. What is skipped at once is in no wave.
func createCampaignSQL(c *conditions) string {
	return `WITH chosen AS MATERIALIZED (
		SELECT c.id, c.owner_id, c.team_id, c.environment, c.version_id, c.expires_at, ` + verdictSQL + ` AS reason,
			array_position($24::text[], c.id) AS rank
		FROM ` + campaignFrom + c.where() + ` LIMIT ` + strconv.Itoa(campaign.MaxChosen+1) + `
	), sized AS (
		SELECT count(*)::int AS total, (count(*) FILTER (WHERE reason = ''))::int AS pending,
			(count(*) FILTER (WHERE reason = '' AND rank IS NOT NULL))::int AS firsts,
			LEAST($9::int, count(*) FILTER (WHERE reason = ''))::int AS canary
		FROM chosen
	), o AS (
		INSERT INTO campaigns (id, name, status, rehearsal, selection, reuse_csr, to_issuer_id, to_profile_id, canary, wave_size,
			pause_between_seconds, max_failures, max_failure_percent, in_flight, plan, requested_by, scope, correlation_id, trace_parent,
			created_at, total, pending, skipped, wave, last_wave)
		SELECT $1, $2, $3, $4, $5::jsonb, $6, $7, $8, canary, $10, $11, $12, $13, $14, $15::jsonb, $16, $17::jsonb, $18, $19, $20,
			total, pending, total - pending, CASE WHEN canary > 0 THEN 0 ELSE 1 END,
			CASE WHEN $10::int > 0 THEN ceil((pending - canary)::numeric / $10)::int ELSE (pending > canary)::int END
		FROM sized WHERE total BETWEEN 1 AND $21 AND (cardinality($24::text[]) = 0 OR firsts = cardinality($24::text[]))
		RETURNING *
	), ordered AS (
		SELECT chosen.*, row_number() OVER (ORDER BY chosen.reason <> '', chosen.rank NULLS LAST, chosen.expires_at, chosen.id) AS position
		FROM chosen
	), placed AS (
		SELECT ordered.*, CASE WHEN ordered.reason <> '' THEN -1 WHEN position <= o.canary THEN 0
			WHEN o.wave_size > 0 THEN 1 + (position - o.canary - 1) / o.wave_size ELSE 1 END AS wave
		FROM ordered, o
	), item AS (
		INSERT INTO campaign_items (campaign_id, position, wave, certificate_id, owner_id, team_id, environment, old_version_id, status, reason, ended_at)
		SELECT $1, position, wave, id, owner_id, team_id, environment, version_id, CASE WHEN reason = '' THEN $22 ELSE $23 END, reason,
			CASE WHEN reason <> '' THEN $20::timestamptz END
		FROM placed ORDER BY position
	), waves AS (
		INSERT INTO campaign_waves (campaign_id, number, total, pending)
		SELECT $1, wave, count(*), count(*) FROM placed WHERE wave >= 0 GROUP BY wave
	)
	SELECT ` + campaignColumns + ` FROM o`
}

// CreateCampaign implements [campaign.Store]. What is chosen is chosen by the statement that stores it.
func (s *Store) CreateCampaign(ctx context.Context, made campaign.Campaign, first []string) (campaign.Campaign, error) {
	scope, err := json.Marshal(made.Scope)
	selection, selectionErr := json.Marshal(made.Selection)
	plan, planErr := json.Marshal(made.Plan)
	if err := errors.Join(err, selectionErr, planErr); err != nil {
		return made, fmt.Errorf("encode campaign %s: %w", made.ID, err)
	}
	if first == nil {
		first = []string{}
	}
	c := conditions{args: []any{
		made.ID, made.Name, string(made.Status), made.Rehearsal, string(selection), made.ReuseCSR, made.ToIssuerID, made.ToProfileID, made.Canary,
		made.WaveSize, int(made.PauseBetween / time.Second), made.MaxFailures, made.MaxFailurePercent, made.InFlight, string(plan),
		made.Origin.Actor, string(scope), made.Origin.CorrelationID, made.Origin.TraceParent, made.CreatedAt,
		campaign.MaxChosen, string(campaign.ItemPending), string(campaign.ItemSkipped), first,
	}}
	if err := c.selected(made.Selection, made.CreatedAt); err != nil {
		return made, err
	}
	c.scope(made.Scope)
	rows, err := s.pool.Query(ctx, createCampaignSQL(&c), c.planned(c.args)...)
	if err != nil {
		return made, pg.Fault(fmt.Errorf("make a campaign: %w", err))
	}
	stored, err := pgx.CollectExactlyOneRow(rows, scanCampaign)
	if errors.Is(err, pgx.ErrNoRows) {
		return made, s.whyNoCampaign(ctx, &made, first)
	}
	return stored, pg.Fault(err)
}

// whyNoCampaign says why a campaign was not stored.
func (s *Store) whyNoCampaign(ctx context.Context, made *campaign.Campaign, first []string) error {
	var c conditions
	if err := c.selected(made.Selection, made.CreatedAt); err != nil {
		return err
	}
	c.scope(made.Scope)
	var total int
	sql := `SELECT count(*) FROM (SELECT FROM ` + campaignFrom + c.where() + ` LIMIT ` + strconv.Itoa(campaign.MaxChosen+1) + `) t`
	if err := s.pool.QueryRow(ctx, sql, c.planned(c.args)...).Scan(&total); err != nil {
		return pg.Fault(fmt.Errorf("count what a campaign chooses: %w", err))
	}
	switch {
	case total == 0:
		return fault.InvalidFields(fault.Field{Name: "selection", Reason: "admits no certificate that was issued and that you may see"})
	case total > campaign.MaxChosen:
		return campaign.TooMany()
	default:
		return fault.InvalidFields(fault.Field{
			Name: "canary.ids", Reason: fmt.Sprintf("not all of the %d are chosen and would be re-issued; a dry run says which are not", len(first)),
		})
	}
}

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
