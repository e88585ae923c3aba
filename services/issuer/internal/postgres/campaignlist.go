package postgres

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/page"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
)

func (c *conditions) campaignViewer(v campaign.Viewer) {
	if v.Own != "" {
		c.parts = append(c.parts, "o.requested_by = "+c.arg(v.Own))
	}
}

// Campaign returns a campaign, NotFound if there is none that the viewer may see.
func (s *Store) Campaign(ctx context.Context, v campaign.Viewer, id string) (campaign.Campaign, error) {
	return readCampaign(ctx, s.pool, v, id, "")
}

func readCampaign(ctx context.Context, q querier, v campaign.Viewer, id, lock string) (campaign.Campaign, error) {
	c := conditions{args: []any{id}}
	c.campaignViewer(v)
	return one(ctx, q, row[campaign.Campaign]{"campaign", id, scanCampaign},
		`SELECT `+campaignColumns+` FROM campaigns o WHERE o.id = $1`+c.and()+lock, c.args...)
}

// Campaigns returns a page of the campaigns that the viewer may see, newest first.
func (s *Store) Campaigns(ctx context.Context, v campaign.Viewer, status *string, p Page) (List[campaign.Campaign], error) {
	var c conditions
	c.campaignViewer(v)
	c.equal("o.status", status)
	return listPage(ctx, s, listing[campaign.Campaign]{
		columns: campaignColumns, from: "campaigns o", conditions: c, sort: "o.created_at", id: "o.id", descending: true,
		page: p, scan: scanCampaign,
		place: func(row *campaign.Campaign) page.Cursor { return page.At(row.CreatedAt, row.ID) },
	})
}

// ItemQuery asks for items of a campaign. Nil filters ask for nothing.
type ItemQuery struct {
	Campaign        string
	Status, OwnerID *string
	Wave            *int
	Page            Page
}

// Of an item that is under way, the certificate says what it waits for.
const itemColumns = `i.position, i.wave, i.certificate_id, COALESCE(c.common_name, ''), i.owner_id, i.team_id, i.environment, i.status,
	CASE WHEN i.status IN ('Renewing', 'Issued') AND i.reason = '' THEN COALESCE(c.status_reason, '') ELSE i.reason END, i.job_id,
	i.old_version_id, i.new_version_id, COALESCE(ov.fingerprint_sha256, ''), COALESCE(nv.fingerprint_sha256, ''),
	COALESCE(ov.authority_key_id, ''), COALESCE(nv.authority_key_id, ''), COALESCE(ov.issuer_id, ''), COALESCE(nv.issuer_id, ''),
	ov.not_after, nv.not_after, i.begun_at, i.ended_at`

const itemFrom = `campaign_items i LEFT JOIN certificates c ON c.id = i.certificate_id
	LEFT JOIN certificate_versions ov ON ov.id = i.old_version_id LEFT JOIN certificate_versions nv ON nv.id = i.new_version_id`

func scanCampaignItem(row pgx.CollectableRow) (campaign.Item, error) {
	var i campaign.Item
	var oldEnd, newEnd, begun, ended *time.Time
	err := row.Scan(&i.Position, &i.Wave, &i.CertificateID, &i.CommonName, &i.OwnerID, &i.TeamID, &i.Environment, &i.Status, &i.Reason,
		&i.JobID, &i.OldVersionID, &i.NewVersionID, &i.OldFingerprint, &i.NewFingerprint, &i.OldAuthorityKeyID, &i.NewAuthorityKeyID,
		&i.OldIssuerID, &i.NewIssuerID, &oldEnd, &newEnd, &begun, &ended)
	i.OldNotAfter, i.NewNotAfter, i.BegunAt, i.EndedAt = orZero(oldEnd), orZero(newEnd), orZero(begun), orZero(ended)
	return i, err
}

// CampaignItems returns a page of a campaign's items, in their order.
func (s *Store) CampaignItems(ctx context.Context, q ItemQuery) (List[campaign.Item], error) {
	var c conditions
	c.equal("i.campaign_id", &q.Campaign)
	c.equal("i.status", q.Status)
	c.equal("i.owner_id", q.OwnerID)
	if q.Wave != nil {
		c.parts = append(c.parts, "i.wave = "+c.arg(*q.Wave))
	}
	return listPage(ctx, s, listing[campaign.Item]{
		columns: itemColumns, from: itemFrom, conditions: c, sort: "i.position", id: "i.certificate_id", page: q.Page, scan: scanCampaignItem,
		key: func(cur page.Cursor) ([]any, error) {
			at, err := strconv.ParseInt(cur.Key, 10, 32)
			if err != nil {
				return nil, fault.InvalidFields(fault.Field{Name: "cursor", Reason: "is not one that this list has given"})
			}
			return []any{at}, nil
		},
		place: func(row *campaign.Item) page.Cursor {
			return page.Cursor{Key: strconv.Itoa(row.Position), ID: row.CertificateID}
		},
	})
}

const wavesSQL = `SELECT number, ` + countColumns + `, started_at, completed_at FROM campaign_waves WHERE campaign_id = $1 ORDER BY number`

// CampaignWaves returns the waves of a campaign in their order.
func (s *Store) CampaignWaves(ctx context.Context, id string) ([]campaign.Wave, error) {
	return collect(ctx, s.pool, scanWave, wavesSQL, id)
}
