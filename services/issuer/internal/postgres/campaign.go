package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/pg"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
	"github.com/certctl/certctl/services/issuer/internal/standing"
)

const countColumns = `total, pending, renewing, issued, done, failed, skipped`

const campaignColumns = `o.id, o.name, o.status, o.reason, o.rehearsal, o.reuse_csr, o.selection, o.to_issuer_id, o.to_profile_id,
	o.canary, o.wave_size, o.pause_between_seconds, o.max_failures, o.max_failure_percent, o.in_flight, o.serve_within_seconds, o.plan, o.requested_by, o.scope,
	o.correlation_id, o.trace_parent, o.total, o.pending, o.renewing, o.issued, o.done, o.failed, o.skipped, o.wave, o.last_wave,
	o.wave_ready_at, o.resumed_at, o.base_done, o.base_failed, o.base_wave, o.revision, o.created_at, o.started_at, o.completed_at`

func countsInto(c *campaign.Counts) []any {
	return []any{&c.Total, &c.Pending, &c.Renewing, &c.Issued, &c.Done, &c.Failed, &c.Skipped}
}

func scanCampaign(row pgx.CollectableRow) (campaign.Campaign, error) {
	var c campaign.Campaign
	var selection, plan, scope []byte
	var pause, serve int64
	var ready, resumed, started, completed *time.Time
	into := append([]any{
		&c.ID, &c.Name, &c.Status, &c.Reason, &c.Rehearsal, &c.ReuseCSR, &selection, &c.ToIssuerID, &c.ToProfileID,
		&c.Canary, &c.WaveSize, &pause, &c.MaxFailures, &c.MaxFailurePercent, &c.InFlight, &serve, &plan, &c.Origin.Actor, &scope,
		&c.Origin.CorrelationID, &c.Origin.TraceParent,
	}, countsInto(&c.Counts)...)
	into = append(into, &c.Wave, &c.Last, &ready, &resumed, &c.BaseDone, &c.BaseFailed, &c.BaseWave, &c.Revision, &c.CreatedAt, &started, &completed)
	if err := row.Scan(into...); err != nil {
		return c, err
	}
	c.PauseBetween, c.ServeWithin = time.Duration(pause)*time.Second, time.Duration(serve)*time.Second
	c.ReadyAt, c.ResumedAt, c.StartedAt, c.CompletedAt = orZero(ready), orZero(resumed), orZero(started), orZero(completed)
	err := errors.Join(json.Unmarshal(selection, &c.Selection), json.Unmarshal(plan, &c.Plan), json.Unmarshal(scope, &c.Scope))
	if err != nil {
		return c, fmt.Errorf("campaign %s: %w", c.ID, err)
	}
	return c, nil
}

// campaignFrom are certificates c with their versions in use v.
const campaignFrom = `certificates c LEFT JOIN certificate_versions v ON v.id = c.version_id AND v.certificate_id = c.id`

// selected asks for those that a campaign's selection admits.
func (c *conditions) selected(s campaign.Selection, at time.Time) error {
	c.parts = append(c.parts, "c.version_id <> ''")
	for _, of := range [...]struct{ column, value string }{
		{"v.issuer_id", s.IssuerID},
		{"v.authority_key_id", s.AuthorityKeyID},
		{"c.certificate_profile_id", s.ProfileID},
		{"v.key_algorithm", s.KeyAlgorithm},
	} {
		if of.value != "" {
			c.equal(of.column, &of.value)
		}
	}
	if s.KeySize > 0 {
		c.parts = append(c.parts, "v.key_size = "+c.arg(s.KeySize))
	}
	q, err := CertificateSearch.Ask(&s.Q, at)
	if err != nil {
		return fault.InvalidFields(fault.Field{Name: "selection.q", Reason: fault.From(err).Message})
	}
	c.search(q)
	return nil
}

// The columns of those that are chosen; what was issued by no version that is on record was issued by the record's issuer.
const (
	chosenVersion = `, COALESCE(v.issuer_id, c.issuer_id), COALESCE(v.authority_key_id, ''), COALESCE(v.key_algorithm, ''), COALESCE(v.key_size, 0),
	CASE WHEN c.target_ids = '{}' THEN COALESCE(v.csr_pem, '') ELSE '' END, t.ids, t.agents, t.enabled, t.versions`
	// Of a request a plan only has to know that it is there.
	plannedVersion = `, COALESCE(v.issuer_id, c.issuer_id), COALESCE(v.authority_key_id, ''), COALESCE(v.key_algorithm, ''), COALESCE(v.key_size, 0),
	CASE WHEN v.csr_pem <> '' THEN 'there' ELSE '' END, t.ids, t.agents, t.enabled, t.versions`
)

func selectedScan(more ...any) func(row pgx.CollectableRow) (campaign.Chosen, error) {
	var found campaign.Chosen
	var ids, agents, versions []string
	var enabled []bool
	scan := certificateScan(append([]any{
		&found.VersionIssuerID, &found.AuthorityKeyID, &found.KeyAlgorithm, &found.KeySize, &found.CSRPEM, &ids, &agents, &enabled, &versions,
	}, more...)...)
	return func(row pgx.CollectableRow) (campaign.Chosen, error) {
		var err error
		if found.Certificate, err = scan(row); err != nil {
			return found, err
		}
		found.Targets = targetsOf(ids, agents, enabled, versions)
		return found, nil
	}
}

// Selected implements [campaign.Store]. Of requests it tells only whether they are there.
func (s *Store) Selected(
	ctx context.Context, scope authn.Scope, sel campaign.Selection, at time.Time, limit int, each func(*campaign.Chosen) error,
) error {
	if sel.AuthorityKeyID != "" {
		if err := s.authoritiesKnown(ctx); err != nil {
			return err
		}
	}
	var c conditions
	if err := c.selected(sel, at); err != nil {
		return err
	}
	c.scope(scope)
	rows, err := s.pool.Query(ctx, "SELECT "+certificateColumns+plannedVersion+" FROM "+campaignFrom+" "+workTargets+c.where()+
		" ORDER BY c.expires_at, c.id LIMIT "+strconv.Itoa(limit), c.planned(c.args)...)
	if err != nil {
		return pg.Fault(fmt.Errorf("choose certificates: %w", err))
	}
	defer rows.Close()
	scan := selectedScan()
	for rows.Next() {
		found, err := scan(rows)
		if err != nil {
			return fmt.Errorf("choose certificates: %w", err)
		}
		if err := each(&found); err != nil {
			return err
		}
	}
	return pg.Fault(rows.Err())
}

// A Local CA signs within the process, so no limits hold for it.
const costsSQL = `SELECT i.id, CASE WHEN i.type = 'GenericCA' THEN 0 WHEN i.max_concurrent > 0 THEN i.max_concurrent ELSE $2 END,
	CASE WHEN i.type = 'GenericCA' THEN 0 ELSE i.rate_limit END, i.rate_window_seconds, COALESCE(t.took, 0), i.ca_chain_pem,
	CASE WHEN NOT i.enabled THEN 'is disabled' WHEN s.opened_at IS NOT NULL THEN 'fails (' || s.last_error || ')' ELSE '' END
FROM issuers i LEFT JOIN issuer_standings s ON s.issuer_id = i.id LEFT JOIN LATERAL (
	SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM j.completed_at - j.started_at)) AS took
	FROM (SELECT * FROM certificate_versions v ORDER BY v.created_at DESC LIMIT 1000) v JOIN jobs j ON j.id = v.job_id
	WHERE v.issuer_id = i.id
) t ON true
WHERE i.id = ANY($1)`

// Costs implements [campaign.Store].
func (s *Store) Costs(ctx context.Context, issuerIDs []string) (map[string]campaign.Cost, error) {
	rows, err := s.pool.Query(ctx, costsSQL, issuerIDs, standing.DefaultConcurrent)
	if err != nil {
		return nil, pg.Fault(fmt.Errorf("look up what issuers may be asked: %w", err))
	}
	out := make(map[string]campaign.Cost, len(issuerIDs))
	var id string
	var c campaign.Cost
	var window int
	var took float64
	var chain string
	_, err = pgx.ForEachRow(rows, []any{&id, &c.Budget.MaxConcurrent, &c.Budget.RateLimit, &window, &took, &chain, &c.Away}, func() error {
		c.CAKeyID = subjectKeyID(chain)
		c.Budget.RateWindow, c.Took = time.Duration(window)*time.Second, time.Duration(took*float64(time.Second))
		out[id] = c
		return nil
	})
	return out, pg.Fault(err)
}

// ProfileUsable implements [campaign.Store].
func (s *Store) ProfileUsable(ctx context.Context, id string) (usable bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM certificate_profiles WHERE id = $1 AND enabled)`, id).Scan(&usable)
	return usable, pg.Fault(err)
}

// destinationsSQL finds the issuers that a campaign's items are to be issued by.
const destinationsSQL = `SELECT DISTINCT COALESCE(o.to_issuer_id, c.issuer_id) FROM campaigns o
JOIN campaign_items i ON i.campaign_id = o.id AND i.status = 'Pending' JOIN certificates c ON c.id = i.certificate_id
WHERE o.id = $1`

// Destinations implements [campaign.Store].
func (s *Store) Destinations(ctx context.Context, id string) ([]string, error) {
	found, err := collect(ctx, s.pool, pgx.RowTo[string], destinationsSQL, id)
	return found, pg.Fault(err)
}

// What a campaign that is paused or stopped has begun is followed to its end.
const openSQL = `SELECT o.id, o.rehearsal FROM campaigns o WHERE o.status = 'Running' OR o.renewing + o.issued > 0 ORDER BY o.id`

// Open implements [campaign.Store].
func (s *Store) Open(ctx context.Context) (ids []string, rehearsals map[string]bool, err error) {
	rows, err := s.pool.Query(ctx, openSQL)
	if err != nil {
		return nil, nil, pg.Fault(fmt.Errorf("look for campaigns: %w", err))
	}
	rehearsals = map[string]bool{}
	var id string
	var rehearsal bool
	_, err = pgx.ForEachRow(rows, []any{&id, &rehearsal}, func() error {
		ids = append(ids, id)
		if rehearsal {
			rehearsals[id] = true
		}
		return nil
	})
	return ids, rehearsals, pg.Fault(err)
}

// CampaignLooks is when campaigns are to be looked at.
type CampaignLooks struct{ *Store }

// campaignLook is how soon a replica looks at what another may have ended.
const campaignLook = time.Second

const nextCampaignSQL = `SELECT min(CASE WHEN o.renewing + o.issued > 0 OR o.wave_ready_at IS NULL THEN now() + $1::interval
	ELSE GREATEST(o.wave_ready_at, now()) END)
FROM campaigns o WHERE o.status = 'Running' OR o.renewing + o.issued > 0`

// NextDue returns when the next wave may begin, or when what is under way is looked at without being told of; false if there is
// nothing to come.
func (l CampaignLooks) NextDue(ctx context.Context) (time.Time, bool, error) {
	var at *time.Time
	if err := l.pool.QueryRow(ctx, nextCampaignSQL, campaignLook).Scan(&at); err != nil {
		return time.Time{}, false, pg.Fault(fmt.Errorf("look for the next campaign: %w", err))
	}
	return orZero(at), at != nil, nil
}
