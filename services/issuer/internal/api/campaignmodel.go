package api

import (
	"cmp"
	"maps"
	"slices"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
)

func (s *server) campaign(c *campaign.Campaign) issuerapi.Campaign {
	out := issuerapi.Campaign{
		ID: c.ID, Name: c.Name, Status: issuerapi.CampaignStatus(c.Status), Reason: text(c.Reason), Selection: shownSelection(c.Selection),
		ToIssuerID: c.ToIssuerID, ToProfileID: c.ToProfileID, Rehearsal: c.Rehearsal, ReuseCsr: c.ReuseCSR, Canary: c.Canary,
		WaveSize: c.WaveSize, PauseBetweenSeconds: int(c.PauseBetween.Seconds()), MaxFailures: c.MaxFailures,
		MaxFailurePercent: c.MaxFailurePercent, InFlight: c.InFlight, ServeWithinSeconds: int(c.ServeWithin.Seconds()), Counts: shownCounts(c.Counts), Wave: c.Wave, LastWave: c.Last,
		RequestedBy: c.Origin.Actor, CreatedAt: c.CreatedAt.UTC(), StartedAt: moment(c.StartedAt), CompletedAt: moment(c.CompletedAt),
	}
	now := s.clock.Now()
	if c.Status == campaign.Running && now.Before(c.ReadyAt) {
		out.NextWaveAt = moment(c.ReadyAt)
	}
	if rate := c.Rate(now); rate > 0 {
		out.RatePerSecond = &rate
	}
	if left, ok := c.Left(now); ok {
		seconds := left.Seconds()
		out.RemainingSeconds = &seconds
	}
	return out
}

func shownSelection(s campaign.Selection) issuerapi.CampaignSelection {
	out := issuerapi.CampaignSelection{
		IssuerID: text(s.IssuerID), AuthorityKeyID: text(s.AuthorityKeyID), CaFingerprintSha256: text(s.CAFingerprint),
		CertificateProfileID: text(s.ProfileID), KeyAlgorithm: (*issuerapi.CampaignSelectionKeyAlgorithm)(text(s.KeyAlgorithm)), Q: text(s.Q),
	}
	if s.KeySize > 0 {
		out.KeySize = &s.KeySize
	}
	return out
}

func shownCounts(c campaign.Counts) issuerapi.CampaignCounts {
	return issuerapi.CampaignCounts{
		Total: c.Total, Pending: c.Pending, Renewing: c.Renewing, Issued: c.Issued, Done: c.Done, Failed: c.Failed, Skipped: c.Skipped,
	}
}

func campaignPlan(p *campaign.Plan) issuerapi.CampaignPlan {
	out := issuerapi.CampaignPlan{
		Total: p.Total, WouldIssue: p.WouldIssue, ByOwner: p.ByOwner, ByTeam: p.ByTeam, ByEnvironment: p.ByEnvironment,
		ByIssuer: p.ByIssuer, ByCaKey: p.ByCAKey, ByKey: p.ByKey, WouldFail: p.WouldFail, WouldSkip: p.WouldSkip, RefusedBy: map[string]int{},
		KeyHolders: p.KeyHolders, Refusals: make([]issuerapi.CampaignRefusal, len(p.Refusals)), Costs: []issuerapi.CampaignCost{},
		Canary: p.Canary, Waves: p.Waves, EstimatedSeconds: p.Takes.Seconds(), Warnings: list(p.Warnings),
	}
	for kind, n := range p.RefusedBy {
		out.RefusedBy[string(kind)] = n
	}
	for i, r := range p.Refusals {
		out.Refusals[i] = issuerapi.CampaignRefusal{CertificateID: r.CertificateID, OwnerID: r.OwnerID, Kind: string(r.Kind), Reason: r.Reason}
	}
	for _, of := range slices.Sorted(maps.Keys(p.Costs)) {
		c := p.Costs[of]
		cost := issuerapi.CampaignCost{IssuerID: of, Requests: c.Requests, AtLeastSeconds: c.AtLeast.Seconds()}
		if took := c.Took.Seconds(); took > 0 {
			cost.TookSeconds = &took
		}
		b := &cost.Budget
		if c.Budget.MaxConcurrent > 0 {
			b.MaxConcurrent = &c.Budget.MaxConcurrent
		}
		if c.Budget.RateLimit > 0 {
			window := c.Budget.RateWindow.Seconds()
			b.RateLimit, b.RateWindowSeconds = &c.Budget.RateLimit, &window
		}
		out.Costs = append(out.Costs, cost)
	}
	slices.SortStableFunc(out.Costs, func(a, b issuerapi.CampaignCost) int { return cmp.Compare(b.Requests, a.Requests) })
	return out
}

func campaignItems(rows []campaign.Item) []issuerapi.CampaignItem {
	out := make([]issuerapi.CampaignItem, len(rows))
	for i := range rows {
		it := &rows[i]
		out[i] = issuerapi.CampaignItem{
			Position: it.Position, Wave: it.Wave, CertificateID: it.CertificateID, CommonName: it.CommonName, OwnerID: it.OwnerID,
			TeamID: it.TeamID, Environment: it.Environment, Status: issuerapi.CampaignItemStatus(it.Status), Reason: text(it.Reason),
			JobID: text(it.JobID), BegunAt: moment(it.BegunAt), EndedAt: moment(it.EndedAt),
			Old: issuerapi.CampaignVersion{
				VersionID: it.OldVersionID, FingerprintSha256: text(it.OldFingerprint), IssuerID: text(it.OldIssuerID),
				AuthorityKeyID: text(it.OldAuthorityKeyID), NotAfter: moment(it.OldNotAfter),
			},
		}
		if it.NewVersionID != "" {
			out[i].New = &issuerapi.CampaignVersion{
				VersionID: it.NewVersionID, FingerprintSha256: text(it.NewFingerprint), IssuerID: text(it.NewIssuerID),
				AuthorityKeyID: text(it.NewAuthorityKeyID), NotAfter: moment(it.NewNotAfter),
			}
		}
	}
	return out
}
