package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
)

const (
	googleAPI   = "https://dns.googleapis.com/dns/v1"
	googleToken = "https://oauth2.googleapis.com/token"
	googleScope = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"
)

// GoogleZones edits the public zones of a project. Every change names the set of records as it was seen, and is made as a
// whole or not at all.
type GoogleZones struct {
	api     rest
	project string
}

// googleKey is what is of use of a key file of a service account. Its token_uri is not: the key's assertions are Google's
// alone to see.
type googleKey struct {
	Type       string `json:"type"`
	Project    string `json:"project_id"`
	Email      string `json:"client_email"`
	PrivateKey string `json:"private_key"`
	KeyID      string `json:"private_key_id"`
}

// NewGoogle returns the zones of a project, that of the service account if it is empty. The key is the JSON that Google
// hands out.
func NewGoogle(keyJSON, project string, e Endpoints) (*GoogleZones, error) {
	var key googleKey
	if err := json.Unmarshal([]byte(keyJSON), &key); err != nil || key.Type != "service_account" || key.Email == "" {
		return nil, errors.New("must be the JSON key of a service account, with type, client_email and private_key")
	}
	if _, err := x509x.ParsePrivateKey([]byte(key.PrivateKey)); err != nil {
		return nil, errors.New("its private_key must be a key in PEM")
	}
	if project == "" {
		project = key.Project
	}
	if project == "" {
		return nil, errors.New("its project_id is missing; set dns_gcloud_project")
	}
	base, token := googleAPI, googleToken
	if e.Google != "" {
		base, token = e.Google, e.GoogleToken
	}
	config := &jwt.Config{
		Email: key.Email, PrivateKey: []byte(key.PrivateKey), PrivateKeyID: key.KeyID, Scopes: []string{googleScope}, TokenURL: token,
	}
	return &GoogleZones{
		api: rest{who: "Google Cloud DNS", base: base, sign: oauth("Google", func(ctx context.Context) oauth2.TokenSource { return config.TokenSource(ctx) })},

		project: "/projects/" + url.PathEscape(project),
	}, nil
}

// googleSet is a set of records.
type googleSet struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	TTL     int      `json:"ttl"`
	Records []string `json:"rrdatas"`
}

type googleChange struct {
	Additions []googleSet `json:"additions,omitempty"`
	Deletions []googleSet `json:"deletions,omitempty"`
}

// zone returns the path of a zone.
func (g *GoogleZones) zone(ctx context.Context, name string) (string, error) {
	var page struct {
		Zones []struct {
			Name       string `json:"name"`
			DNSName    string `json:"dnsName"`
			Visibility string `json:"visibility"`
		} `json:"managedZones"`
	}
	if err := g.api.call(ctx, http.MethodGet, g.project+"/managedZones?dnsName="+url.QueryEscape(name+"."), nil, nil, &page); err != nil {
		return "", fmt.Errorf("%w; the service account needs dns.managedZones.list", err)
	}
	for _, z := range page.Zones {
		if z.DNSName == name+"." && z.Visibility != "private" {
			return g.project + "/managedZones/" + url.PathEscape(z.Name), nil
		}
	}
	return "", fmt.Errorf("the project has no public zone %s", name)
}

// edit changes the set of records of a name; nothing if change says that all is well.
func (g *GoogleZones) edit(ctx context.Context, at publish.Place, change func([]string) (after []string, needed bool)) error {
	zone, err := g.zone(ctx, at.Zone)
	if err != nil {
		return err
	}
	return contested(ctx, func() error {
		var page struct {
			Sets []googleSet `json:"rrsets"`
		}
		err := g.api.call(ctx, http.MethodGet, zone+"/rrsets?type=TXT&name="+url.QueryEscape(at.Name+"."), nil, nil, &page)
		if err != nil {
			return err
		}
		var now []string
		if len(page.Sets) > 0 {
			now = page.Sets[0].Records
		}
		after, needed := change(now)
		if !needed {
			return nil
		}
		c := googleChange{Deletions: page.Sets}
		if len(after) > 0 {
			c.Additions = []googleSet{{Name: at.Name + ".", Type: "TXT", TTL: ttl, Records: after}}
		}
		err = g.api.call(ctx, http.MethodPost, zone+"/changes", nil, c, nil)
		switch status(err) {
		case http.StatusConflict, http.StatusPreconditionFailed, http.StatusNotFound:
			return errContested
		case http.StatusForbidden:
			return fmt.Errorf("%w; the service account needs dns.changes.create and dns.resourceRecordSets.* on the zone %s", err, at.Zone)
		}
		return err
	})
}

// Add implements [publish.Provider].
func (g *GoogleZones) Add(ctx context.Context, at publish.Place, value string) error {
	return g.edit(ctx, at, func(now []string) ([]string, bool) {
		return append(slices.Clone(now), quoted(value)), !slices.Contains(now, quoted(value))
	})
}

// Remove implements [publish.Provider].
func (g *GoogleZones) Remove(ctx context.Context, at publish.Place, value string) error {
	return g.edit(ctx, at, func(now []string) ([]string, bool) {
		return slices.DeleteFunc(slices.Clone(now), func(v string) bool { return v == quoted(value) }), slices.Contains(now, quoted(value))
	})
}

// Test implements [publish.Provider]. Whether records may be set shows only when one is.
func (g *GoogleZones) Test(ctx context.Context, zones []string) error {
	if len(zones) == 0 {
		return g.api.call(ctx, http.MethodGet, g.project+"/managedZones?maxResults=1", nil, nil, nil)
	}
	for _, zone := range zones {
		if _, err := g.zone(ctx, zone); err != nil {
			return refused(zone, err)
		}
	}
	return nil
}
