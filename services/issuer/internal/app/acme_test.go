package app_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme"
	"github.com/certctl/certctl/services/issuer/internal/ca/acme/pebbletest"
)

// pebble starts a Pebble that is trusted.
func (w *world) pebble(o pebbletest.Options) *pebbletest.Server {
	w.t.Helper()
	s := pebbletest.Start(w.t, o)
	w.trusted = append(w.trusted, s.Root(0))
	return s
}

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
	s := w.pebble(pebbletest.Options{Bound: true})
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
	s := w.pebble(pebbletest.Options{})
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
		"http01_via": "carrier pigeon",
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

func TestACME_ReplacesItsAccountKeyByTheAPI(t *testing.T) {
	w := newWorld(t)
	s := w.pebble(pebbletest.Options{Bound: true})
	w.start(app.Settings{ACME: app.ACME{HTTPAddress: s.HTTP}})
	i := w.issuer(acmeIssuer(s))
	w.signed(w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")}))
	const keys = `SELECT string_agg(encode(sealed_key, 'hex'), ' ') FROM acme_accounts WHERE next_sealed_key IS NULL`
	key, account := w.text(keys), w.text(accountURL)
	rotate := func(id string) string { return issuers + "/" + id + "/rotate-account-key" }
	w.must(http.StatusNoContent, http.MethodPost, "rotateIssuerAccountKey", rotate(i.ID), nil, nil)
	if w.text(keys) == key || w.text(accountURL) != account {
		t.Error("it has the same key, or another account")
	}
	w.issues(i.ID)
	w.refused(http.StatusConflict, http.MethodPost, "rotateIssuerAccountKey", rotate("iss-local"), nil)
	w.refused(http.StatusNotFound, http.MethodPost, "rotateIssuerAccountKey", rotate("iss-none"), nil)
	w.as = authn.Principal{ID: "key-web", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-web"}}}
	w.refused(http.StatusForbidden, http.MethodPost, "rotateIssuerAccountKey", rotate(i.ID), nil)
}

// replaced is what the CA is told of the certificates that new ones replace, order by order.
type replaced struct {
	mu  sync.Mutex
	ids []string // guarded by mu
}

func (r *replaced) note(req *http.Request) {
	if !strings.HasSuffix(req.URL.Path, "/order-plz") {
		return
	}
	body, _ := io.ReadAll(req.Body)
	req.Body = io.NopCloser(bytes.NewReader(body))
	var signed struct{ Payload string }
	var order struct{ Replaces string }
	_ = json.Unmarshal(body, &signed)
	payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
	_ = json.Unmarshal(payload, &order)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, order.Replaces)
}

func (r *replaced) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}

func TestACME_RenewsWhenTheCASaysSoAndSaysWhatItReplaces(t *testing.T) {
	w := newWorld(t)
	s := w.pebble(pebbletest.Options{Bound: true})
	w.start(app.Settings{ACME: app.ACME{HTTPAddress: s.HTTP}, AdviceSweep: 50 * time.Millisecond, RenewalSweep: 50 * time.Millisecond})
	var told replaced
	body := acmeIssuer(s)
	body["config"].(map[string]any)["directory_url"] = s.Between(func(_ http.ResponseWriter, r *http.Request) bool {
		told.note(r)
		return false
	})
	body["config"].(map[string]any)["profile"] = "default"
	i := w.issuer(body)
	c := w.signed(w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")}))
	// The CA's own window is in the future; it is shown, and nothing is renewed.
	w.await("advice", func() bool { return w.certificate(c.ID).RenewalAdvice != nil })
	first := *w.certificate(c.ID).RenewalAdvice
	if !first.WindowStart.After(time.Now()) || first.RenewAt.Before(first.WindowStart) || first.RenewAt.After(first.WindowEnd) {
		t.Errorf("advised %+v", first)
	}
	// It was issued a week ago; now the CA has to revoke it.
	w.exec(`UPDATE issuer.certificate_versions SET created_at = now() - interval '7 days', not_before = now() - interval '7 days'`)
	past := time.Now().Add(-time.Hour).UTC()
	s.Suggest(c.Version.PemChain, fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q},"explanationURL":"https://ca.example/incident"}`,
		past.Add(-time.Hour).Format(time.RFC3339), past.Format(time.RFC3339)))
	w.exec(`UPDATE issuer.renewal_advice SET next_ask_at = now()`)
	requested, _ := hear(w, func(e event.CertificateRequested) bool { return e.Renewal && e.Automatic })
	if requested.CertificateID != c.ID || !strings.Contains(requested.Reason, "its CA advises") {
		t.Errorf("requested %+v", requested)
	}
	if now := w.certificate(c.ID).RenewalAdvice; now == nil || now.ExplanationURL == nil || *now.ExplanationURL != "https://ca.example/incident" {
		t.Errorf("advised %+v", now)
	}
	w.await("the renewal to wait for a request", func() bool { return w.job(requested.JobID).Status == "AwaitingCSR" })
	w.must(http.StatusAccepted, http.MethodPost, "submitCertificateCSR", "/api/v1/certificates/"+c.ID+"/csr",
		map[string]any{"csr_pem": csrFor(t, "www.example.com")}, nil)
	hear(w, func(e event.CertificateRenewed) bool { return e.CertificateID == c.ID })
	// One in 256 of Pebble's serials begins with a zero, and Pebble does not find that certificate; it is then asked without.
	if ids := told.all(); ids[0] != "" || !slices.ContainsFunc(ids, func(id string) bool { return id != "" }) {
		t.Errorf("told to replace %q", ids)
	}
	// The new version has advice of its own.
	w.await("advice about the new version", func() bool {
		a := w.certificate(c.ID).RenewalAdvice
		return a != nil && a.WindowStart.After(time.Now())
	})
}
