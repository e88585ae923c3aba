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

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/dns/bindtest"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

// acmeIssuer is the body that sets up an ACME issuer.
func acmeIssuer(s *pebbletest.Server) map[string]any {
	return map[string]any{
		"id": "iss-acme", "name": "Pebble", "type": "acme", "enabled": true, "config": map[string]any{
			"directory_url": s.Directory, "email": "pki@example.com", "profile": "shortlived", "ca_certificate_pem": strings.TrimSpace(string(s.TLSRoot)),
			"eab_kid": pebbletest.KeyID, "eab_hmac_key": pebbletest.MACKey,
		},
	}
}

func (w *world) text(sql string) (text string) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), sql).Scan(&text); err != nil {
		w.t.Fatal(err)
	}
	return text
}

const accountURL = `SELECT string_agg(account_url, ' ') FROM acme_accounts`

func TestACME_SetUpByTheAPIIssuesAndRenewsAndKeepsItsAccount(t *testing.T) {
	w := newWorld(t)
	s := pebbletest.Start(t, pebbletest.Options{Bound: true})
	settings := app.Settings{ACME: app.ACME{HTTPAddress: s.HTTP}}
	first := w.start(settings)
	i := w.issuer(acmeIssuer(s))
	if i.Config["eab_hmac_key"] != "(secret)" || i.Type != "ACME" {
		t.Errorf("set up %+v", i)
	}
	w.test(i.ID)
	account := w.text(accountURL)
	c := w.signed(w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")}))
	// The chain is put on record when the CA has shown it.
	w.issues(i.ID)
	certs, err := x509x.ParseCertificates([]byte(c.Version.PemChain))
	if err != nil || certs[0].NotAfter.After(time.Now().AddDate(0, 0, 7)) {
		t.Errorf("not of the profile that is for six days: %v", err)
	}
	first.end()
	w.start(settings)
	w.issues(i.ID)
	if now := w.text(accountURL); now != account || !strings.HasPrefix(now, "https://") || strings.Contains(now, " ") {
		t.Errorf("account %q before, %q after a restart", account, now)
	}
	if w.count(`SELECT count(*) FROM acme_accounts WHERE position('PRIVATE KEY' in encode(sealed_key, 'escape')) > 0`) != 0 {
		t.Error("the account's key lies open")
	}
}

func TestACME_SetUpByTheEnvironmentProvesNamesByScripts(t *testing.T) {
	w := newWorld(t)
	s := pebbletest.Start(t, pebbletest.Options{})
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, s.TLSRoot, 0o600); err != nil {
		t.Fatal(err)
	}
	present, cleanUp, _ := s.Scripts()
	w.start(app.Settings{ACME: app.ACME{
		Directory: s.Directory, Challenge: "dns-01", CACertPath: root,
		DNS: acme.Hooks{SetUp: present, CleanUp: cleanUp, Propagation: time.Minute, Resolver: s.DNS},
	}})
	i := w.read("iss-acme-prod")
	want := map[string]any{"directory_url": s.Directory, "challenge_type": "dns-01", "ca_certificate_pem": strings.TrimSpace(string(s.TLSRoot))}
	if d := cmp.Diff(want, i.Config); d != "" || i.Type != "ACME" || !i.Enabled {
		t.Errorf("set up %+v (-want +got):\n%s", i, d)
	}
	w.signed(w.create(map[string]any{
		"common_name": "example.com", "sans": []string{"*.example.com"}, "issuer_id": i.ID, "csr_pem": csrFor(t, "example.com", "*.example.com"),
	}))
}

func TestACME_SettingsAtFaultAreNamed(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for setting, value := range map[string]any{
		"directory_url": "http://acme.example.com/directory", "email": "nobody", "challenge_type": "tls-alpn-01", "eab_hmac_key": "?",
		"profile": "a\nb", "ca_certificate_pem": "none", "dns_present_script": "/bin/sh", "preferred_chain": 7, "dns_provider": "unheard-of", "preflight": "perhaps", "dns_zones": "a b",
		"dns_resolvers": "1.2.3.4:port", "dns_propagation_check": "never", "dns_propagation_wait_seconds": -1,
	} {
		config := map[string]any{"directory_url": "https://acme.example.com/directory", setting: value}
		p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, map[string]any{"name": "x", "type": "ACME", "config": config})
		if len(p.Errors) != 1 || p.Errors[0].Name != "config."+setting {
			t.Errorf("%s: %+v", setting, p)
		}
	}
	// Programs are the operator's to name, and there are none.
	config := map[string]any{"directory_url": "https://acme.example.com/directory", "challenge_type": "dns-01"}
	p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, map[string]any{"name": "x", "type": "ACME", "config": config})
	if !strings.Contains(p.Message, "CERTCTL_ACME_DNS_PRESENT_SCRIPT") {
		t.Errorf("dns-01 without programs: %+v", p)
	}
	delete(config, "challenge_type")
	i := w.issuer(map[string]any{"name": "x", "type": "ACME", "config": config})
	p = w.refused(http.StatusBadRequest, http.MethodPut, "updateIssuer", issuers+"/"+i.ID,
		map[string]any{"config": map[string]any{"directory_url": "https://elsewhere.example.com/directory"}})
	if len(p.Errors) != 1 || p.Errors[0].Name != "config.directory_url" {
		t.Errorf("another CA: %+v", p)
	}
}

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
	s := pebbletest.Start(t, pebbletest.Options{Bound: true, DNS: b.Address})
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
	s := pebbletest.Start(t, pebbletest.Options{DNS: b.Address})
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
	s := pebbletest.Start(t, pebbletest.Options{Bound: true})
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
