package provider

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
)

const azureVersion = "?api-version=2018-05-01"

// azureClouds are where Azure is, by what the setting calls it.
var azureClouds = map[string][2]string{
	"public":       {"https://management.azure.com", "https://login.microsoftonline.com"},
	"usgovernment": {"https://management.usgovcloudapi.net", "https://login.microsoftonline.us"},
	"china":        {"https://management.chinacloudapi.cn", "https://login.chinacloudapi.cn"},
}

// AzureAccount is a service principal, and whose zones it edits.
type AzureAccount struct {
	Tenant, Client, Secret      string
	Subscription, ResourceGroup string
	// Cloud is public (the default), usgovernment or china.
	Cloud string
}

// AzureZones edits the public zones of a resource group. A set of records is changed only in the version that was seen.
type AzureZones struct {
	api   rest
	group string
}

// NewAzure returns the zones of an account.
func NewAzure(a AzureAccount, e Endpoints) *AzureZones {
	at := azureClouds[a.Cloud]
	if a.Cloud == "" {
		at = azureClouds["public"]
	}
	scope := at[0] + "/.default"
	if e.Azure != "" {
		at = [2]string{e.Azure, e.AzureLogin}
	}
	tokens := &clientcredentials.Config{
		ClientID: a.Client, ClientSecret: a.Secret, TokenURL: at[1] + "/" + url.PathEscape(a.Tenant) + "/oauth2/v2.0/token",
		Scopes: []string{scope}, AuthStyle: oauth2.AuthStyleInParams,
	}
	return &AzureZones{
		api: rest{who: "Azure", base: at[0], sign: oauth("Azure", tokens.TokenSource)},
		group: "/subscriptions/" + url.PathEscape(a.Subscription) + "/resourceGroups/" + url.PathEscape(a.ResourceGroup) +
			"/providers/Microsoft.Network/dnsZones",
	}
}

// azureSet is a set of TXT records.
type azureSet struct {
	ETag       string `json:"etag,omitempty"`
	Properties struct {
		TTL     int          `json:"TTL"`
		Records []azureValue `json:"TXTRecords"`
	} `json:"properties"`
}

type azureValue struct {
	Value []string `json:"value"`
}

func (a *AzureZones) path(at publish.Place) string {
	relative := at.Relative()
	if relative == "" {
		relative = "@"
	}
	return a.group + "/" + url.PathEscape(at.Zone) + "/TXT/" + url.PathEscape(relative) + azureVersion
}

// edit changes the set of records of a name. What change returns is put there; nothing if it says that all is well, and
// the set is removed if nothing is left.
func (a *AzureZones) edit(ctx context.Context, at publish.Place, change func([]azureValue) (after []azureValue, needed bool)) error {
	return contested(ctx, func() error {
		var set azureSet
		condition := http.Header{}
		err := a.api.call(ctx, http.MethodGet, a.path(at), nil, nil, &set)
		switch {
		case status(err) == http.StatusNotFound:
			condition.Set("If-None-Match", "*")
		case err != nil:
			return err
		default:
			condition.Set("If-Match", set.ETag)
		}
		after, needed := change(set.Properties.Records)
		if !needed {
			return nil
		}
		if len(after) == 0 {
			err = a.api.call(ctx, http.MethodDelete, a.path(at), condition, nil, nil)
		} else {
			var put azureSet
			put.Properties.TTL, put.Properties.Records = ttl, after
			err = a.api.call(ctx, http.MethodPut, a.path(at), condition, put, nil)
		}
		if status(err) == http.StatusPreconditionFailed || status(err) == http.StatusConflict {
			return errContested
		}
		return err
	})
}

func holds(value string) func(azureValue) bool {
	return func(v azureValue) bool { return strings.Join(v.Value, "") == value }
}

// Add implements [publish.Provider].
func (a *AzureZones) Add(ctx context.Context, at publish.Place, value string) error {
	err := a.edit(ctx, at, func(now []azureValue) ([]azureValue, bool) {
		return append(slices.Clone(now), azureValue{[]string{value}}), !slices.ContainsFunc(now, holds(value))
	})
	switch status(err) {
	case http.StatusForbidden:
		return fmt.Errorf("%w; the service principal needs the role DNS Zone Contributor on the zone %s", err, at.Zone)
	case http.StatusNotFound:
		return fmt.Errorf("%w; the resource group has no zone %s", err, at.Zone)
	}
	return err
}

// Remove implements [publish.Provider].
func (a *AzureZones) Remove(ctx context.Context, at publish.Place, value string) error {
	return a.edit(ctx, at, func(now []azureValue) ([]azureValue, bool) {
		return slices.DeleteFunc(slices.Clone(now), holds(value)), slices.ContainsFunc(now, holds(value))
	})
}

// Test implements [publish.Provider]. Whether records may be set shows only when one is.
func (a *AzureZones) Test(ctx context.Context, zones []string) error {
	if len(zones) == 0 {
		return a.api.call(ctx, http.MethodGet, a.group+azureVersion, nil, nil, nil)
	}
	for _, zone := range zones {
		if err := a.api.call(ctx, http.MethodGet, a.group+"/"+url.PathEscape(zone)+azureVersion, nil, nil, nil); err != nil {
			return refused(zone, err)
		}
	}
	return nil
}
