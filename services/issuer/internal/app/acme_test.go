package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
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
		"profile": "a\nb", "ca_certificate_pem": "none", "dns_present_script": "/bin/sh", "preferred_chain": 7,
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
