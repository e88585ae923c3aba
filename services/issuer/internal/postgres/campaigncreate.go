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
			pause_between_seconds, max_failures, max_failure_percent, in_flight, serve_within_seconds, plan, requested_by, scope, correlation_id, trace_parent,
			created_at, total, pending, skipped, wave, last_wave)
		SELECT $1, $2, $3, $4, $5::jsonb, $6, $7, $8, canary, $10, $11, $12, $13, $14, $25, $15::jsonb, $16, $17::jsonb, $18, $19, $20,
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
		int(made.ServeWithin / time.Second),
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
