package provider

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
)

const cloudflareAPI = "https://api.cloudflare.com/client/v4"

// identical are the errors by which Cloudflare refuses a record that is there already.
var identical = []string{"(81057)", "(81058)"}

// CloudflareZones edits zones at Cloudflare, where each value is a record of its own.
type CloudflareZones struct{ api rest }

// NewCloudflare returns the zones that an API token may edit.
func NewCloudflare(token string, e Endpoints) *CloudflareZones {
	base := cloudflareAPI
	if e.Cloudflare != "" {
		base = e.Cloudflare
	}
	return &CloudflareZones{rest{who: "Cloudflare", base: base, sign: bearer(token)}}
}

// found is a page of what has an id.
type found struct {
	Result []struct {
		ID      string `json:"id"`
		Content string `json:"content"`
	} `json:"result"`
}

// zone returns the id of a zone.
func (c *CloudflareZones) zone(ctx context.Context, name string) (string, error) {
	var page found
	if err := c.api.call(ctx, http.MethodGet, "/zones?name="+url.QueryEscape(name), nil, nil, &page); err != nil {
		return "", fmt.Errorf("%w; the token needs Zone:Read for %s", err, name)
	}
	switch len(page.Result) {
	case 1:
		return page.Result[0].ID, nil
	case 0:
		return "", fmt.Errorf("%s has no zone %s that the token may see; give it Zone:Read and DNS:Edit for the zone", c.api.who, name)
	}
	return "", fmt.Errorf("%s has several zones %s; limit the token to one of them", c.api.who, name)
}

// Add implements [publish.Provider].
func (c *CloudflareZones) Add(ctx context.Context, at publish.Place, value string) error {
	zone, err := c.zone(ctx, at.Zone)
	if err != nil {
		return err
	}
	err = c.api.call(ctx, http.MethodPost, "/zones/"+url.PathEscape(zone)+"/dns_records", nil, map[string]any{
		"type": "TXT", "name": at.Name, "content": quoted(value), "ttl": ttl, "comment": "proof for an ACME CA",
	}, nil)
	switch {
	case err == nil, slices.ContainsFunc(identical, func(code string) bool { return strings.Contains(err.Error(), code) }):
		return nil
	case status(err) == http.StatusForbidden:
		return fmt.Errorf("%w; the token needs DNS:Edit for %s", err, at.Zone)
	}
	return err
}

// Remove implements [publish.Provider].
func (c *CloudflareZones) Remove(ctx context.Context, at publish.Place, value string) error {
	zone, err := c.zone(ctx, at.Zone)
	if err != nil {
		return err
	}
	records := "/zones/" + url.PathEscape(zone) + "/dns_records"
	var page found
	if err := c.api.call(ctx, http.MethodGet, records+"?type=TXT&per_page=100&name="+url.QueryEscape(at.Name), nil, nil, &page); err != nil {
		return err
	}
	for _, r := range page.Result {
		if strings.Trim(r.Content, `"`) != value {
			continue
		}
		err := c.api.call(ctx, http.MethodDelete, records+"/"+url.PathEscape(r.ID), nil, nil, nil)
		if err != nil && status(err) != http.StatusNotFound {
			return err
		}
	}
	return nil
}

// Test implements [publish.Provider]. Whether records may be set shows only when one is.
func (c *CloudflareZones) Test(ctx context.Context, zones []string) error {
	if len(zones) == 0 {
		return c.api.call(ctx, http.MethodGet, "/zones?per_page=5", nil, nil, nil)
	}
	for _, name := range zones {
		zone, err := c.zone(ctx, name)
		if err == nil {
			err = c.api.call(ctx, http.MethodGet, "/zones/"+url.PathEscape(zone)+"/dns_records?per_page=5", nil, nil, nil)
		}
		if err != nil {
			return refused(name, err)
		}
	}
	return nil
}
