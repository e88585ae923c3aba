package api

import (
	"context"
	"encoding/hex"
	"strings"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/campaign"
	"github.com/certctl/certctl/services/issuer/internal/issuance"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

// CreateCampaign implements the operation of that name.
func (s *server) CreateCampaign(ctx context.Context, r issuerapi.CreateCampaignRequestObject) (issuerapi.CreateCampaignResponseObject, error) {
	p, origin := asking(ctx)
	request, err := campaignRequest(r.Body)
	if err != nil {
		return nil, err
	}
	if r.Body.DryRun != nil && *r.Body.DryRun {
		plan, err := s.campaigns.Plan(ctx, p, request)
		if err != nil {
			return nil, err
		}
		return issuerapi.CreateCampaign200JSONResponse(campaignPlan(plan)), nil
	}
	c, err := s.campaigns.Create(ctx, p, origin, request)
	if err != nil {
		return nil, err
	}
	return issuerapi.CreateCampaign201JSONResponse(s.campaign(&c)), nil
}

func campaignRequest(b *issuerapi.CampaignCreate) (campaign.Request, error) {
	r := campaign.Request{
		Settings: campaign.Settings{
			Name: strings.TrimSpace(b.Name), Rehearsal: b.Rehearsal != nil && *b.Rehearsal, ReuseCSR: b.ReuseCsr != nil && *b.ReuseCsr,
			ToIssuerID: b.ToIssuerID, ToProfileID: b.ToProfileID, MaxFailures: b.MaxFailures, MaxFailurePercent: b.MaxFailurePercent,
		},
		Start: b.Start != nil && *b.Start,
	}
	if r.Name == "" || !issuance.Printable(r.Name) {
		return r, invalid("name", "is required, and holds no control characters")
	}
	if b.WaveSize != nil {
		r.WaveSize = *b.WaveSize
	}
	if b.PauseBetweenSeconds != nil {
		r.PauseBetween = time.Duration(*b.PauseBetweenSeconds) * time.Second
	}
	if b.InFlight != nil {
		r.InFlight = *b.InFlight
	}
	if b.ServeWithinSeconds != nil {
		r.ServeWithin = time.Duration(*b.ServeWithinSeconds) * time.Second
	}
	if b.Canary != nil {
		r.Canary = b.Canary.Count
		if b.Canary.Ids != nil {
			r.CanaryIDs = *b.Canary.Ids
		}
	}
	for _, ref := range [...]struct {
		name string
		id   *string
	}{{"to_issuer_id", b.ToIssuerID}, {"to_profile_id", b.ToProfileID}} {
		if ref.id != nil && (*ref.id != "" || ref.name == "to_issuer_id") && known(ref.name, *ref.id) != nil {
			return r, invalid(ref.name, "is no valid id")
		}
	}
	for _, one := range r.CanaryIDs {
		if known("certificate", one) != nil {
			return r, invalid("canary.ids", "holds what is no id")
		}
	}
	var err error
	r.Selection, err = campaignSelection(&b.Selection)
	return r, err
}

func campaignSelection(in *issuerapi.CampaignSelection) (s campaign.Selection, err error) {
	for name := range in.AdditionalProperties {
		return s, invalid("selection."+name, "is nothing by which certificates are chosen")
	}
	for _, p := range [...]struct {
		name string
		in   *string
		out  *string
	}{{"issuer_id", in.IssuerID, &s.IssuerID}, {"certificate_profile_id", in.CertificateProfileID, &s.ProfileID}} {
		given, err := filter("selection."+p.name, p.in)
		if err != nil {
			return s, err
		}
		*p.out = value(given)
	}
	for _, p := range [...]struct {
		name string
		in   *string
		out  *string
	}{{"authority_key_id", in.AuthorityKeyID, &s.AuthorityKeyID}, {"ca_fingerprint_sha256", in.CaFingerprintSha256, &s.CAFingerprint}} {
		*p.out = strings.ToLower(strings.ReplaceAll(value(p.in), ":", ""))
		if _, err := hex.DecodeString(*p.out); err != nil {
			return s, invalid("selection."+p.name, "is not in hex")
		}
	}
	s.KeyAlgorithm, s.Q = value((*string)(in.KeyAlgorithm)), value(in.Q)
	if in.KeySize != nil {
		s.KeySize = *in.KeySize
	}
	return s, nil
}

// ListCampaigns implements the operation of that name.
func (s *server) ListCampaigns(ctx context.Context, r issuerapi.ListCampaignsRequestObject) (issuerapi.ListCampaignsResponseObject, error) {
	p, _ := asking(ctx)
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	var status *string
	if v := r.Params.Status; v != nil && *v != "" {
		if !v.Valid() {
			return nil, invalid("status", "is none of the states of a campaign")
		}
		status = (*string)(v)
	}
	list, err := s.store.Campaigns(ctx, campaign.ViewerOf(p), status, at)
	if err != nil {
		return nil, err
	}
	out := issuerapi.ListCampaigns200JSONResponse{
		Data: make([]issuerapi.Campaign, len(list.Rows)), Total: list.Total,
		Page: at.Number, PerPage: at.Size, NextCursor: next(list.Next),
	}
	for i := range list.Rows {
		out.Data[i] = s.campaign(&list.Rows[i])
	}
	return out, nil
}

// GetCampaign implements the operation of that name.
func (s *server) GetCampaign(ctx context.Context, r issuerapi.GetCampaignRequestObject) (issuerapi.GetCampaignResponseObject, error) {
	if err := known("campaign", r.ID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	c, err := s.store.Campaign(ctx, campaign.ViewerOf(p), r.ID)
	return issuerapi.GetCampaign200JSONResponse(s.campaign(&c)), err
}

// ListCampaignItems implements the operation of that name.
func (s *server) ListCampaignItems(ctx context.Context, r issuerapi.ListCampaignItemsRequestObject) (issuerapi.ListCampaignItemsResponseObject, error) {
	if err := known("campaign", r.ID); err != nil {
		return nil, err
	}
	at, err := pageOf(r.Params.Page, r.Params.PerPage, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	q := postgres.ItemQuery{Campaign: r.ID, Wave: r.Params.Wave, Page: at}
	if v := r.Params.Status; v != nil && *v != "" {
		if !v.Valid() {
			return nil, invalid("status", "is none of the states of an item")
		}
		q.Status = (*string)(v)
	}
	if q.OwnerID, err = filter("owner_id", r.Params.OwnerID); err != nil {
		return nil, err
	}
	p, _ := asking(ctx)
	if _, err := s.store.Campaign(ctx, campaign.ViewerOf(p), r.ID); err != nil {
		return nil, err
	}
	list, err := s.store.CampaignItems(ctx, q)
	if err != nil {
		return nil, err
	}
	return issuerapi.ListCampaignItems200JSONResponse{
		Data: campaignItems(list.Rows), Total: list.Total, Page: at.Number, PerPage: at.Size, NextCursor: next(list.Next),
	}, nil
}

// steer changes the state of a campaign.
func (s *server) steer(
	ctx context.Context, id string, do func(context.Context, *campaign.Service) (campaign.Campaign, error),
) (issuerapi.Campaign, error) {
	if err := known("campaign", id); err != nil {
		return issuerapi.Campaign{}, err
	}
	c, err := do(ctx, s.campaigns)
	return s.campaign(&c), err
}

// StartCampaign implements the operation of that name.
func (s *server) StartCampaign(ctx context.Context, r issuerapi.StartCampaignRequestObject) (issuerapi.StartCampaignResponseObject, error) {
	p, origin := asking(ctx)
	c, err := s.steer(ctx, r.ID, func(ctx context.Context, s *campaign.Service) (campaign.Campaign, error) {
		return s.Start(ctx, p, origin, r.ID)
	})
	return issuerapi.StartCampaign200JSONResponse(c), err
}

// PauseCampaign implements the operation of that name.
func (s *server) PauseCampaign(ctx context.Context, r issuerapi.PauseCampaignRequestObject) (issuerapi.PauseCampaignResponseObject, error) {
	p, origin := asking(ctx)
	c, err := s.steer(ctx, r.ID, func(ctx context.Context, s *campaign.Service) (campaign.Campaign, error) {
		return s.Pause(ctx, p, origin, r.ID)
	})
	return issuerapi.PauseCampaign200JSONResponse(c), err
}

// ResumeCampaign implements the operation of that name.
func (s *server) ResumeCampaign(ctx context.Context, r issuerapi.ResumeCampaignRequestObject) (issuerapi.ResumeCampaignResponseObject, error) {
	p, origin := asking(ctx)
	c, err := s.steer(ctx, r.ID, func(ctx context.Context, s *campaign.Service) (campaign.Campaign, error) {
		return s.Resume(ctx, p, origin, r.ID)
	})
	return issuerapi.ResumeCampaign200JSONResponse(c), err
}

// StopCampaign implements the operation of that name.
func (s *server) StopCampaign(ctx context.Context, r issuerapi.StopCampaignRequestObject) (issuerapi.StopCampaignResponseObject, error) {
	p, origin := asking(ctx)
	c, err := s.steer(ctx, r.ID, func(ctx context.Context, s *campaign.Service) (campaign.Campaign, error) {
		return s.Stop(ctx, p, origin, r.ID)
	})
	return issuerapi.StopCampaign200JSONResponse(c), err
}

// RetryCampaign implements the operation of that name.
func (s *server) RetryCampaign(ctx context.Context, r issuerapi.RetryCampaignRequestObject) (issuerapi.RetryCampaignResponseObject, error) {
	p, origin := asking(ctx)
	skipped := r.Body != nil && r.Body.IncludeSkipped != nil && *r.Body.IncludeSkipped
	c, err := s.steer(ctx, r.ID, func(ctx context.Context, s *campaign.Service) (campaign.Campaign, error) {
		return s.Retry(ctx, p, origin, r.ID, skipped)
	})
	return issuerapi.RetryCampaign200JSONResponse(c), err
}
