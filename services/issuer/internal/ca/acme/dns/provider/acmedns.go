package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
)

// AcmeDNSAccount is one at an acme-dns server: the right to set records of one name, as clients of acme-dns store it.
type AcmeDNSAccount struct {
	FullDomain string `json:"fulldomain"`
	Subdomain  string `json:"subdomain"`
	Username   string `json:"username"`
	Password   string `json:"password"`
	Server     string `json:"server_url"`
}

// AcmeDNSNames are the names at acme-dns servers that others are aliases of. Such a server keeps the two newest values of
// a name and forgets older ones by itself.
type AcmeDNSNames struct{ accounts map[string]AcmeDNSAccount }

// NewAcmeDNS reads accounts: a JSON object of them, by names that do not matter, for an account serves those that are
// aliases of its fulldomain. Accounts without a server_url are at server.
func NewAcmeDNS(accountsJSON, server string) (*AcmeDNSNames, error) {
	var given map[string]AcmeDNSAccount
	if err := json.Unmarshal([]byte(accountsJSON), &given); err != nil || len(given) == 0 {
		return nil, errors.New(`must be a JSON object of accounts, such as {"example.com": {"fulldomain": …, "subdomain": …, "username": …, "password": …, "server_url": …}}`)
	}
	n := &AcmeDNSNames{map[string]AcmeDNSAccount{}}
	for _, of := range slices.Sorted(maps.Keys(given)) {
		a := given[of]
		if a.Server == "" {
			a.Server = server
		}
		if a.FullDomain == "" || a.Subdomain == "" || a.Username == "" || a.Password == "" {
			return nil, fmt.Errorf("the account of %s must have fulldomain, subdomain, username and password", of)
		}
		if !isURL(a.Server) {
			return nil, fmt.Errorf("the account of %s needs a server_url of the form https://host, or set dns_acmedns_server", of)
		}
		n.accounts[strings.ToLower(strings.TrimSuffix(a.FullDomain, "."))] = a
	}
	return n, nil
}

// Zone implements [publish.ZoneFinder]: names are all that counts here.
func (n *AcmeDNSNames) Zone(_ context.Context, name string) (string, error) {
	_, err := n.account(name)
	return name, err
}

// Most implements [publish.Limited].
func (*AcmeDNSNames) Most() int { return 2 }

func (n *AcmeDNSNames) account(name string) (AcmeDNSAccount, error) {
	a, ok := n.accounts[name]
	if !ok {
		return a, fmt.Errorf("%s is no name of an acme-dns account; make it an alias (CNAME) of the fulldomain of one of them: %s",
			name, strings.Join(slices.Sorted(maps.Keys(n.accounts)), ", "))
	}
	return a, nil
}

func (a AcmeDNSAccount) api() *rest {
	return &rest{who: "acme-dns", base: strings.TrimSuffix(a.Server, "/")}
}

// Add implements [publish.Provider].
func (n *AcmeDNSNames) Add(ctx context.Context, at publish.Place, value string) error {
	a, err := n.account(at.Name)
	if err != nil {
		return err
	}
	header := http.Header{"X-Api-User": {a.Username}, "X-Api-Key": {a.Password}}
	return a.api().call(ctx, http.MethodPost, "/update", header, map[string]string{"subdomain": a.Subdomain, "txt": value}, nil)
}

// Remove implements [publish.Provider]. Such a server removes nothing; the value is of no use any more.
func (*AcmeDNSNames) Remove(context.Context, publish.Place, string) error { return nil }

// Test implements [publish.Provider]. It reaches the servers; an account shows only when a record is set by it.
func (n *AcmeDNSNames) Test(ctx context.Context, _ []string) error {
	asked := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(n.accounts)) {
		a := n.accounts[name]
		if asked[a.Server] {
			continue
		}
		asked[a.Server] = true
		if err := a.api().call(ctx, http.MethodGet, "/health", nil, nil, nil); err != nil {
			return fmt.Errorf("%s: %w", a.Server, err)
		}
	}
	return nil
}
