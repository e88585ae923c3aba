package app_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/bindtest"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

// byUpdate is the body that sets up an issuer that proves names in a BIND's zones.
func byUpdate(s *pebbletest.Server, b *bindtest.Server) map[string]any {
	body := acmeIssuer(s)
	maps.Copy(body["config"].(map[string]any), map[string]any{
		"challenge_type": "dns-01", "dns_provider": "rfc2136", "dns_zones": bindtest.Open, "dns_resolvers": []string{b.Address},
		"dns_rfc2136_nameserver": b.Address, "dns_rfc2136_tsig_key": bindtest.Key, "dns_rfc2136_tsig_secret": b.Secret,
		// The zone says that its name server is at port 53, where the test has none.
		"dns_propagation_check": "resolvers", "dns_propagation_wait_seconds": 0,
	})
	return body
}

func TestACME_SetUpByTheAPIProvesNamesInZonesThatItEdits(t *testing.T) {
	w := newWorld(t)
	b := bindtest.Start(t, bindtest.Options{Records: map[string][]string{bindtest.Open: {`shop CAA 0 issue "other-ca.example"`}}})
	s := w.pebble(pebbletest.Options{Bound: true, DNS: b.Address})
	w.start(app.Settings{})
	i := w.issuer(byUpdate(s, b))
	if i.Config["dns_rfc2136_tsig_secret"] != "(secret)" {
		t.Errorf("set up %+v", i)
	}
	if w.count(`SELECT count(*) FROM issuers WHERE position('`+b.Secret+`' in to_jsonb(issuers)::text) > 0`)+
		w.count(`SELECT count(*) FROM outbox WHERE position('`+b.Secret+`' in to_jsonb(outbox)::text) > 0`) != 0 {
		t.Error("the secret lies open")
	}
	w.test(i.ID)
	w.signed(w.create(map[string]any{
		"common_name": "example.com", "sans": []string{"*.example.com"}, "issuer_id": i.ID, "csr_pem": csrFor(t, "example.com", "*.example.com"),
	}))

	var found issuerapi.Preflight
	w.must(http.StatusOK, http.MethodPost, "preflightIssuer", issuers+"/"+i.ID+"/preflight", map[string]any{"names": []string{"*.Shop.example.com", "www.example.com"}}, &found)
	if len(found.Findings) != 4 || found.Verdict != "forbidden" || found.Findings[0].Name != "*.shop.example.com" || found.Findings[0].Check != "caa" {
		t.Errorf("found %+v", found)
	}
	p := w.refused(http.StatusBadRequest, http.MethodPost, "preflightIssuer", issuers+"/"+i.ID+"/preflight", map[string]any{"names": []string{"www.example.com", "no name"}})
	if len(p.Errors) != 1 || p.Errors[0].Name != "names[1]" {
		t.Errorf("of what is no name: %+v", p)
	}
	w.refused(http.StatusConflict, http.MethodPost, "preflightIssuer", issuers+"/iss-local/preflight", map[string]any{"names": []string{"www.example.com"}})
	w.refused(http.StatusNotFound, http.MethodPost, "preflightIssuer", issuers+"/iss-none/preflight", map[string]any{"names": []string{"www.example.com"}})

	w.put(http.StatusOK, "updateIssuer", issuers+"/"+i.ID, map[string]any{"config": map[string]any{"dns_rfc2136_tsig_secret": "b3RoZXI="}}, "", nil)
	p = w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/"+i.ID+"/test", nil)
	if !strings.Contains(p.Message, "dns_provider rfc2136") || !strings.Contains(p.Message, "BADSIG") {
		t.Errorf("with another secret: %+v", p)
	}
}

func TestACME_SetUpByTheEnvironmentEditsZones(t *testing.T) {
	w := newWorld(t)
	b := bindtest.Start(t, bindtest.Options{})
	s := w.pebble(pebbletest.Options{DNS: b.Address})
	root, settings := filepath.Join(t.TempDir(), "root.pem"), filepath.Join(t.TempDir(), "dns.json")
	text, err := json.Marshal(map[string]any{
		"dns_rfc2136_nameserver": b.Address, "dns_rfc2136_tsig_key": bindtest.Key, "dns_rfc2136_tsig_secret": b.Secret,
		"dns_propagation_check": "resolvers", "dns_propagation_wait_seconds": 0,
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{root: s.TLSRoot, settings: text} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.start(app.Settings{ACME: app.ACME{
		Directory: s.Directory, Challenge: "dns-01", CACertPath: root, DNSProvider: "rfc2136", DNSSettingsPath: settings,
		Preflight: "warn", DNS: acme.Hooks{Resolver: b.Address},
	}})
	i := w.read("iss-acme-prod")
	if i.Config["dns_rfc2136_tsig_secret"] != "(secret)" || i.Config["dns_provider"] != "rfc2136" || i.Config["preflight"] != "warn" {
		t.Errorf("set up %+v", i)
	}
	w.signed(w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")}))
}

func TestACME_ShowsWhenARateLimitLetsItTryAgain(t *testing.T) {
	w := newWorld(t)
	s := w.pebble(pebbletest.Options{Bound: true})
	until := time.Now().UTC().Add(50 * time.Hour).Truncate(time.Second)
	body := acmeIssuer(s)
	body["config"].(map[string]any)["directory_url"] = s.Between(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/order-plz") {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusTooManyRequests)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"type": "urn:ietf:params:acme:error:rateLimited", "status": 429,
			"detail": "too many certificates already issued, retry after " + until.Format("2006-01-02 15:04:05") + " UTC: see the documentation",
		})
		return true
	})
	w.start(app.Settings{ACME: app.ACME{HTTPAddress: s.HTTP}})
	i := w.issuer(body)
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")})
	w.await("the next attempt", func() bool {
		reason := w.certificate(c.ID).StatusReason
		return reason != nil && strings.Contains(*reason, "too many certificates") && strings.Contains(*reason, "next attempt at "+until.Format("2006-01-02T15"))
	})
}

func TestDNS01_SettingsAtFaultAreNamed(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for setting, value := range map[string]any{
		"dns_provider": "unheard-of", "preflight": "perhaps", "dns_zones": "a b", "dns_resolvers": "1.2.3.4:port", "dns_propagation_check": "never",
		"dns_propagation_wait_seconds": -1, "dns_propagation_timeout_seconds": 241, "dns_cloudflare_api_token": "of another provider",
	} {
		config := map[string]any{"directory_url": "https://acme.example.com/directory", setting: value}
		p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, map[string]any{"name": "x", "type": "ACME", "config": config})
		if len(p.Errors) != 1 || p.Errors[0].Name != "config."+setting {
			t.Errorf("%s: %+v", setting, p)
		}
	}
}
