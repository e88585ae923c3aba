package provider

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/bindtest"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/publish"
	"github.com/certctl/certctl/services/issuer/internal/setting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// googleJSON is the key of a service account.
var googleJSON = sync.OnceValue(func() string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	pem, err := x509x.EncodePrivateKey(key)
	if err != nil {
		panic(err)
	}
	text, _ := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "project-1", "client_email": "a@b.example", "private_key": string(pem), "token_uri": "https://elsewhere.example/",
	})
	return string(text)
})

// settings are those of a provider, with a secret.
func settings(of, secret string) map[string]any {
	return map[string]map[string]any{
		RFC2136:    {"dns_rfc2136_nameserver": "127.0.0.1:5353", "dns_rfc2136_tsig_key": "k", "dns_rfc2136_tsig_secret": "c2VjcmV0"},
		Route53:    {"dns_route53_access_key_id": map[bool]string{true: "AKIDGOOD", false: "AKIDBAD"}[secret == goodSecret], "dns_route53_secret_access_key": secret},
		Cloudflare: {"dns_cloudflare_api_token": secret},
		Azure: {
			"dns_azuredns_tenant_id": "tenant-1", "dns_azuredns_client_id": "client-1", "dns_azuredns_client_secret": secret,
			"dns_azuredns_subscription_id": "sub-1", "dns_azuredns_resource_group": "group-1",
		},
		Google:  {"dns_gcloud_service_account_key": googleJSON()},
		AcmeDNS: {"dns_acmedns_server": "https://auth.example.net", "dns_acmedns_accounts": `{"any": {"fulldomain": "sub-1.auth.example.net.", "subdomain": "sub-1", "username": "user-1", "password": "` + secret + `"}}`},
	}[of]
}

func read(of string, config map[string]any, e Endpoints) (publish.Provider, error) {
	r := setting.Of("ACME", config)
	p := Read(r, of, e)
	return p, r.Err()
}

func opened(t *testing.T, of, secret string, e Endpoints) publish.Provider {
	t.Helper()
	config := settings(of, secret)
	if of == AcmeDNS {
		config["dns_acmedns_server"] = e.Azure
	}
	p, err := read(of, config, e)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unquoted are values as they were given, whatever the host makes of them.
func unquoted(values []string) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = strings.Trim(v, `"`)
	}
	slices.Sort(all)
	return all
}

var place = publish.Place{Zone: fakeZone, Name: "_acme-challenge.www." + fakeZone}

// conforms holds a provider to what [publish.Provider] says of it.
func conforms(t *testing.T, p publish.Provider, texts func(name string) []string) {
	t.Helper()
	does := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	shows := func(want ...string) {
		t.Helper()
		if got := unquoted(texts(place.Name)); !slices.Equal(got, want) {
			t.Errorf("it shows %q, want %q", got, want)
		}
	}
	ctx := t.Context()
	does(p.Remove(ctx, place, "never"))
	does(p.Add(ctx, place, "first"))
	does(p.Add(ctx, place, "second"))
	does(p.Add(ctx, place, "first"))
	shows("first", "second")
	does(p.Remove(ctx, place, "first"))
	shows("second")
	does(p.Remove(ctx, place, "second"))
	does(p.Remove(ctx, place, "second"))
	shows()
	// Others who write at the same time are not written over.
	var wg sync.WaitGroup
	want := []string{"value-0", "value-1", "value-2", "value-3"}
	for _, v := range want {
		wg.Go(func() {
			if err := p.Add(ctx, place, v); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	shows(want...)
	for _, v := range want {
		wg.Go(func() {
			if err := p.Remove(ctx, place, v); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	shows()
}

func TestProviders_KeepTheValuesOfOthersAtTheSameName(t *testing.T) {
	for _, of := range []string{Cloudflare, Azure, Google, Route53} {
		t.Run("a fake of "+of, func(t *testing.T) {
			f := &fake{values: map[string][]string{}}
			p := opened(t, of, goodSecret, endpoint(t, of, f))
			if err := p.Test(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if err := p.Test(t.Context(), []string{fakeZone}); err != nil {
				t.Error(err)
			}
			conforms(t, p, f.texts)
		})
	}
	t.Run("BIND", func(t *testing.T) {
		b := bindtest.Start(t, bindtest.Options{})
		conforms(t, &Update{Server: b.Address, Key: bindtest.Key, Secret: b.Secret, Algorithm: bindtest.Algorithm}, b.Texts)
	})
}

func TestProviders_SayWhichCredentialOrRightIsWanting(t *testing.T) {
	for of, wanting := range map[string]struct{ credential, right, zone string }{
		Cloudflare: {"Invalid access token (9109)", "DNS:Edit", "no zone elsewhere.example"},
		Azure:      {"AADSTS7000215", "DNS Zone Contributor", "ResourceNotFound"},
		Google:     {"", "dns.changes.create", "no public zone elsewhere.example"},
		Route53:    {"InvalidClientTokenId", "route53:ChangeResourceRecordSets", "no public hosted zone elsewhere.example"},
	} {
		t.Run("a fake of "+of, func(t *testing.T) {
			e := endpoint(t, of, &fake{values: map[string][]string{}, refuses: true})
			says := func(err error, what string) {
				t.Helper()
				if err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), badSecret) || strings.Contains(err.Error(), goodSecret) {
					t.Errorf("got %v, want %q", err, what)
				}
			}
			if wanting.credential != "" {
				bad := opened(t, of, badSecret, e)
				says(bad.Test(t.Context(), nil), wanting.credential)
				says(bad.Add(t.Context(), place, "v"), wanting.credential)
			}
			good := opened(t, of, goodSecret, e)
			says(good.Add(t.Context(), place, "v"), wanting.right)
			says(good.Test(t.Context(), []string{"elsewhere.example"}), wanting.zone)
		})
	}
}

func TestAcmeDNS_SetsWhatAnAliasLeadsTo(t *testing.T) {
	f := &fake{values: map[string][]string{}}
	e := endpoint(t, AcmeDNS, f)
	n := opened(t, AcmeDNS, goodSecret, e)
	at := publish.Place{Zone: "sub-1.auth.example.net", Name: "sub-1.auth.example.net"}
	for _, v := range []string{"first", "second"} {
		if err := n.Add(t.Context(), at, v); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.texts(at.Name); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("it shows %q", got)
	}
	if zone, err := n.(publish.ZoneFinder).Zone(t.Context(), at.Name); err != nil || zone != at.Name {
		t.Errorf("zone %q, %v", zone, err)
	}
	_, err := n.(publish.ZoneFinder).Zone(t.Context(), "_acme-challenge.www.example.com")
	if err == nil || !strings.Contains(err.Error(), "CNAME") || !strings.Contains(err.Error(), at.Name) {
		t.Errorf("without an alias: %v", err)
	}
	if err := n.Test(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := opened(t, AcmeDNS, badSecret, e).Add(t.Context(), at, "v"); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("with another password: %v", err)
	}
}

func TestRead_NamesSettingsAtFault(t *testing.T) {
	for _, of := range Names() {
		if _, err := read(of, settings(of, goodSecret), Endpoints{}); err != nil {
			t.Errorf("%s: %v", of, err)
		}
		// One that is missing is asked for; one of another provider is refused, so that no secret stays that is of no use.
		config := settings(of, goodSecret)
		for setting := range config {
			without := settings(of, goodSecret)
			delete(without, setting)
			if _, err := read(of, without, Endpoints{}); fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%s without %s: %v", of, setting, err)
			}
		}
		if _, err := read("", config, Endpoints{}); fault.CodeOf(err) != fault.Invalid || len(fault.From(err).Fields) != len(config) {
			t.Errorf("%s, not chosen: %v", of, err)
		}
	}
	for setting, c := range map[string]struct {
		of    string
		value any
	}{
		"dns_rfc2136_nameserver": {RFC2136, "a b"}, "dns_rfc2136_tsig_secret": {RFC2136, "?"}, "dns_rfc2136_tsig_algorithm": {RFC2136, "hmac-md5"},
		"dns_route53_region": {Route53, "us-east-1.evil.example/"}, "dns_cloudflare_api_token": {Cloudflare, "a\nb"}, "dns_azuredns_cloud": {Azure, "mars"},
		"dns_gcloud_service_account_key": {Google, `{"type": "external_account"}`}, "dns_acmedns_accounts": {AcmeDNS, "{}"},
		"dns_acmedns_server": {AcmeDNS, 7},
	} {
		config := settings(c.of, goodSecret)
		config[setting] = c.value
		if _, err := read(c.of, config, Endpoints{}); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "config."+setting) {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

func TestContested_GivesUpInTheEndAndWhenItsContextDoes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	err := contested(ctx, func() error {
		tries++
		cancel()
		return errContested
	})
	if tries != 1 || err == nil {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestProviders_GiveCredentialsToNobodyElse(t *testing.T) {
	asked := make(chan string, 1)
	elsewhere := serve(t, func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path })
	e := Endpoints{Azure: serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere+r.URL.Path, http.StatusTemporaryRedirect)
	})}
	n := opened(t, AcmeDNS, goodSecret, e)
	if err := n.Add(t.Context(), publish.Place{Name: "sub-1.auth.example.net"}, "v"); err == nil || len(asked) != 0 {
		t.Errorf("got %v, elsewhere was asked %d times", err, len(asked))
	}
	config := settings(AcmeDNS, goodSecret)
	config["dns_acmedns_server"] = "http://auth.example.net"
	if _, err := read(AcmeDNS, config, Endpoints{}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("without TLS: %v", err)
	}
}
