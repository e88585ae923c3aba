package app_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/libs/bus"
	"github.com/certctl/certctl/libs/clock"
	"github.com/certctl/certctl/libs/health"
	"github.com/certctl/certctl/libs/obs"
	"github.com/certctl/certctl/libs/service"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/script/scripttest"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca/stepcatest"
)

// fromEnvironment are the settings of a step-ca in files and variables.
func fromEnvironment(t *testing.T, s *stepcatest.Server) app.StepCA {
	t.Helper()
	dir := t.TempDir()
	key, root := filepath.Join(dir, "provisioner.key"), filepath.Join(dir, "root.crt")
	for path, text := range map[string][]byte{key: append(s.Key, '\n'), root: x509x.EncodePEM(s.Root.Raw)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return app.StepCA{URL: s.URL, RootCertPath: root, Provisioner: stepcatest.Provisioner, KeyPath: key, Password: stepcatest.Password}
}

func TestEnvironment_SetsUpAStepCAAndKeepsItsSecretsToItself(t *testing.T) {
	w := newWorld(t)
	s := stepcatest.Start(t)
	settings := app.Settings{StepCA: fromEnvironment(t, s)}
	first := w.start(settings)
	w.start(settings)
	w.await("its CA to be known", func() bool { return w.read("iss-stepca").CaChainPem != nil })
	i := w.read("iss-stepca")
	want := map[string]any{
		"url": s.URL, "root_fingerprint": x509x.Fingerprint(s.Root.Raw), "provisioner": stepcatest.Provisioner,
		"provisioner_key": "(secret)", "provisioner_password": "(secret)",
	}
	if d := cmp.Diff(want, i.Config); d != "" || !i.Enabled || i.Type != "StepCA" {
		t.Errorf("set up %+v (-want +got):\n%s", i, d)
	}
	if i.SettingsFrom == nil || *i.SettingsFrom != "CERTCTL_STEPCA_*" || w.read("iss-local").SettingsFrom != nil {
		t.Errorf("its settings are said to be from %v", i.SettingsFrom)
	}
	w.issues("iss-stepca")
	if n := w.count(`SELECT count(*) FROM issuers WHERE sealed_settings IS NOT NULL`); n != 0 {
		t.Error("its secrets are stored")
	}

	// The environment says how it is reached, its record what it is called and whether it is used.
	path := issuers + "/iss-stepca"
	w.put(http.StatusOK, "updateIssuer", path, map[string]any{"name": "Our CA", "enabled": false, "config": i.Config}, "", nil)
	for field, value := range map[string]any{"url": "https://elsewhere", "provisioner_password": "x"} {
		p := w.refused(http.StatusBadRequest, http.MethodPut, "updateIssuer", path, map[string]any{"config": map[string]any{field: value}})
		if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Reason, "CERTCTL_STEPCA_*") {
			t.Errorf("%s: %+v", field, p)
		}
	}
	p := w.refused(http.StatusConflict, http.MethodDelete, "deleteIssuer", path, nil)
	if !strings.Contains(p.Message, "CERTCTL_STEPCA_*") {
		t.Errorf("removed: %q", p.Message)
	}
	first.end()
	settings.StepCA.URL += "/"
	w.start(settings)
	if now := w.read("iss-stepca"); now.Config["url"] != s.URL+"/" || now.Name != "Our CA" || now.Enabled {
		t.Errorf("after a change of the environment %+v", now)
	}
}

func TestEnvironment_ThatNamesAnIssuerNoMoreLeavesItToTheAPI(t *testing.T) {
	w := newWorld(t)
	s := stepcatest.Start(t)
	w.start(app.Settings{StepCA: fromEnvironment(t, s)}).end()
	w.start(app.Settings{})
	path := issuers + "/iss-stepca"
	p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", path+"/test", nil)
	if !strings.Contains(p.Message, "provisioner_password") {
		t.Errorf("without its secrets: %q", p.Message)
	}
	w.put(http.StatusOK, "updateIssuer", path, map[string]any{"config": map[string]any{
		"provisioner_key": string(s.Key), "provisioner_password": stepcatest.Password,
	}}, "", nil)
	w.test("iss-stepca")
}

func TestEnvironment_SetsUpACABehindPrograms(t *testing.T) {
	w := newWorld(t)
	dir, _ := scripttest.Plain(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	w.start(app.Settings{OpenSSL: app.OpenSSL{
		Sign: in("sign"), Revoke: in("revoke"), CRL: in("crl"), CACertPath: in("ca.crt"), Timeout: time.Minute,
	}})
	configured, _ := hear(w, func(e event.IssuerConfigured) bool { return e.IssuerID == "iss-openssl" })
	if !configured.SignsCRL {
		t.Errorf("configured %+v", configured)
	}
	w.issues("iss-openssl")
	// It is not a way for callers of the API to run programs.
	w.refused(http.StatusBadRequest, http.MethodPut, "updateIssuer", issuers+"/iss-openssl", map[string]any{"config": map[string]any{"sign_script": "/bin/sh"}})
	body := openSSL(t, dir)
	body["config"].(map[string]any)["sign_script"] = in("sign")
	w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, body)
}

// A CA that takes calls and never answers them must not keep the service from starting.
func TestStart_IsNotHeldUpByACAThatHangs(t *testing.T) {
	w := newWorld(t)
	hangs, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	w.start(app.Settings{StepCA: app.StepCA{
		URL: "https://" + hangs.Addr().String(), RootFingerprint: strings.Repeat("ab", 32), Provisioner: "p",
	}})
	w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
}

func TestStart_RefusesAnEnvironmentThatCannotBe(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{}).end()
	const away = "https://127.0.0.1:1"
	text := func(text string) string {
		path := filepath.Join(t.TempDir(), "dns.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	w.exec(`INSERT INTO issuer.issuers (id, name, type) VALUES ('iss-stepca', 'taken', 'GenericCA')`)
	conn := w.nats.Connect(bus.Options{Name: "issuer", Log: w.log})
	for says, settings := range map[string]app.Settings{
		"CERTCTL_STEPCA_PROVISIONER_KEY_PATH":  {StepCA: app.StepCA{URL: away, Provisioner: "p", KeyPath: "/none"}},
		"CERTCTL_STEPCA_ROOT_CERT":             {StepCA: app.StepCA{URL: away, Provisioner: "p", RootCertPath: "/none"}},
		"already, of type GenericCA":           {StepCA: app.StepCA{URL: away, Provisioner: "p"}},
		"/none/sign does not exist":            {OpenSSL: app.OpenSSL{Sign: "/none/sign"}},
		"CERTCTL_ACME_DNS_SETTINGS_FILE: open": {ACME: app.ACME{Directory: away, DNSProvider: "rfc2136", DNSSettingsPath: "/none"}},
		"no JSON object":                       {ACME: app.ACME{Directory: away, DNSProvider: "rfc2136", DNSSettingsPath: text("secret")}},
		"email is none of the settings dns_*":  {ACME: app.ACME{Directory: away, DNSProvider: "rfc2136", DNSSettingsPath: text(`{"email": "x"}`)}},
		"belongs to challenge_type dns-01":     {ACME: app.ACME{Directory: away, DNSProvider: "rfc2136"}},
		"CERTCTL_OPENSSL_CA_CERT":              {OpenSSL: app.OpenSSL{Sign: "/bin/true", CACertPath: "/none"}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := app.Run(ctx, settings, service.Deps{
			Log: w.log, DB: w.pool, Bus: conn, Metrics: obs.NewRegistry(), Health: health.New(w.log), Clock: clock.System, Sealer: w.sealer,
		})
		cancel()
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
	// A CA that is away is another matter: it comes back.
	w.exec(`DELETE FROM issuer.issuers WHERE id = 'iss-stepca'`)
	w.start(app.Settings{StepCA: app.StepCA{URL: away, RootFingerprint: strings.Repeat("ab", 32), Provisioner: "p"}})
	if i := w.read("iss-stepca"); !i.Enabled || len(i.Config) != 3 {
		t.Errorf("while it is away %+v", i)
	}
}
