package api

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/contracts/subject"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/services/deployment/internal/fleet"
	"github.com/certctl/certctl/services/deployment/internal/postgres"
)

// ListSites implements the operation.
func (a *Answers) ListSites(ctx context.Context, r deploymentapi.ListSitesRequestObject) (deploymentapi.ListSitesResponseObject, error) {
	w, err := ask(r.Params.Page, r.Params.PerPage)
	if err != nil {
		return nil, err
	}
	sites, total, err := postgres.ListSites(ctx, a.DB, w.size, w.offset())
	if err != nil {
		return nil, err
	}
	list := deploymentapi.ListSites200JSONResponse{Data: make([]deploymentapi.Site, len(sites)), Total: total, Page: w.number, PerPage: w.size}
	for i, s := range sites {
		list.Data[i] = shownSite(s)
	}
	return list, nil
}

func shownSite(s postgres.Site) deploymentapi.Site {
	return deploymentapi.Site{ID: s.ID, Name: s.Name, Status: deploymentapi.SiteStatus(s.Status), CreatedAt: s.CreatedAt}
}

// CreateSite implements the operation.
func (a *Answers) CreateSite(ctx context.Context, r deploymentapi.CreateSiteRequestObject) (deploymentapi.CreateSiteResponseObject, error) {
	if err := shapes(ctx); err != nil {
		return nil, err
	}
	siteID, err := chosen(r.Body.ID, "site-")
	if err != nil {
		return nil, err
	}
	if siteID == subject.AgentSite || siteID == subject.AgentEnrol {
		return nil, fault.InvalidFields(fault.Field{Name: "id", Reason: "is a reserved word"})
	}
	if err := fleet.CheckName(r.Body.Name); err != nil {
		return nil, err
	}
	site := postgres.Site{ID: siteID, Name: r.Body.Name, Status: string(deploymentapi.New), CreatedAt: a.Clock.Now()}
	var token string
	err = a.change(ctx, func(tx pgx.Tx) error {
		if err := postgres.InsertSite(ctx, tx, site); err != nil {
			return err
		}
		if _, token, err = a.Office.SiteToken(ctx, tx, site.ID); err != nil {
			return err
		}
		return a.say(ctx, tx, event.SiteCreated{SiteID: site.ID, Name: site.Name}, 1)
	})
	if err != nil {
		return nil, err
	}
	shown := shownSite(site)
	shown.Token = &token
	return deploymentapi.CreateSite201JSONResponse(shown), nil
}

// CreateSiteEnrolmentToken implements the operation.
func (a *Answers) CreateSiteEnrolmentToken(ctx context.Context, r deploymentapi.CreateSiteEnrolmentTokenRequestObject) (deploymentapi.CreateSiteEnrolmentTokenResponseObject, error) {
	if err := shapes(ctx); err != nil {
		return nil, err
	}
	if err := known("site", r.ID); err != nil {
		return nil, err
	}
	token, text, err := a.Office.ReplaceLeaf(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return deploymentapi.CreateSiteEnrolmentToken201JSONResponse{ID: token.ID, Token: text, SiteID: token.SiteID, ExpiresAt: token.ExpiresAt}, nil
}

// EnrolSite implements the operation. It is open: the token is the credential.
func (a *Answers) EnrolSite(ctx context.Context, r deploymentapi.EnrolSiteRequestObject) (deploymentapi.EnrolSiteResponseObject, error) {
	if err := known("site", r.ID); err != nil {
		return nil, err
	}
	who, err := a.Office.Site(ctx, r.ID, r.Body.Token, strings.TrimSpace(r.Body.PublicKey))
	if err != nil {
		return nil, err
	}
	return deploymentapi.EnrolSite200JSONResponse{
		SiteID: who.SiteID, Domain: who.SiteID, UserJwt: who.LeafJWT, RelayJwt: who.RelayJWT,
		OperatorJwt: who.OperatorJWT, AccountJwt: who.AccountJWT, AccountKey: who.AccountKey,
		HubUrls: who.HubURLs, PlatformKey: who.PlatformKey,
	}, nil
}
