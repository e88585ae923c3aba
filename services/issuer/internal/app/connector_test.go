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

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/script/scripttest"
	"github.com/certctl/certctl/services/issuer/internal/ca/stepca/stepcatest"
)

// stepCA is the body that sets up a step-ca.
func stepCA(s *stepcatest.Server) map[string]any {
	return map[string]any{
		"id": "iss-step", "name": "Step", "type": "step-ca", "enabled": true, "config": map[string]any{
			"url": s.URL, "root_fingerprint": x509x.Fingerprint(s.Root.Raw), "provisioner": stepcatest.Provisioner,
			"provisioner_key": string(s.Key), "provisioner_password": stepcatest.Password, "validity_days": 2,
		},
	}
}

func (w *world) test(issuerID string) (tested issuerapi.IssuerTested) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPost, "testIssuer", issuers+"/"+issuerID+"/test", nil, &tested)
	return tested
}

func (w *world) read(issuerID string) (i issuerapi.Issuer) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodGet, "getIssuer", issuers+"/"+issuerID, nil, &i)
	return i
}

// issues has an issuer certify a key of the requester's and one of an agent's, and renew the former.
// signed waits until a certificate has the version that its CA is asked for in the background.
func (w *world) signed(c issuerapi.Certificate) issuerapi.Certificate {
	w.t.Helper()
	e, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	c.Version = &issuerapi.CertificateVersion{ID: e.VersionID, SerialNumber: e.SerialNumber, PemChain: e.PEMChain}
	return c
}

func (w *world) issues(issuerID string) {
	w.t.Helper()
	t := w.t.(*testing.T)
	c := w.signed(w.create(map[string]any{"common_name": "www.example.com", "issuer_id": issuerID, "csr_pem": csrFor(t, "www.example.com")}))
	// It may have been shown only in what was issued.
	w.await("the CA of "+issuerID+" to be known", func() bool { return w.read(issuerID).CaChainPem != nil })
	leaf := verified(t, c, w.read(issuerID))
	w.renew(c.ID, map[string]any{"csr_pem": csrFor(t, "www.example.com")})
	renewed, _ := hear(w, func(e event.CertificateRenewed) bool { return e.CertificateID == c.ID })
	if renewed.SerialNumber == x509x.SerialHex(leaf.SerialNumber) || renewed.PreviousVersionID != c.Version.ID {
		t.Errorf("renewed to %+v", renewed)
	}
	w.target("tgt-1", "agent-1")
	by := w.create(map[string]any{"common_name": "agent.example.com", "issuer_id": issuerID, "target_ids": []string{"tgt-1"}})
	w.answer(w.keyRequest(by.ID, 1), catest.NewKey(t, ecdsa))
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == by.ID })
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-1")}, 1)
	hear(w, func(e event.CertificateActivated) bool { return e.CertificateID == by.ID })
	for _, v := range w.versionsOf(by.ID) {
		if v.IssuerID == nil || *v.IssuerID != issuerID {
			t.Errorf("version %s does not say that %s issued it", v.ID, issuerID)
		}
	}
}

func TestStepCA_SetUpByTheAPIIssuesAndRenews(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	s := stepcatest.Start(t)
	i := w.issuer(stepCA(s))
	if i.CaChainPem != nil {
		t.Error("it is told what the CA's certificate is before anybody has asked it")
	}
	tested := w.test(i.ID)
	if tested.Subject == nil || *tested.Subject != "CN=Step Intermediate" || tested.SignsCrl {
		t.Errorf("tested %+v", tested)
	}
	configured, _ := hear(w, func(e event.IssuerConfigured) bool { return e.IssuerID == i.ID })
	if now := w.read(i.ID); now.CaChainPem == nil || *now.CaChainPem != configured.CAChainPEM || strings.Count(configured.CAChainPEM, "BEGIN") != 2 {
		t.Errorf("told of %q, shown %v", configured.CAChainPEM, now.CaChainPem)
	}
	w.issues(i.ID)
	c := w.signed(w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")}))
	leaf := verified(t, c, w.read(i.ID))
	if life := time.Until(leaf.NotAfter); life < 47*time.Hour || life > 48*time.Hour {
		t.Errorf("%s are left of what was to last two days", life)
	}
}

func TestIssuer_KeepsSecretSettingsSealedAndShowsThatTheyAreSet(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	s := stepcatest.Start(t)
	body := stepCA(s)
	_, created := w.try(http.MethodPost, "createIssuer", issuers, body)
	path := issuers + "/iss-step"
	var shown issuerapi.Issuer
	if err := json.Unmarshal(created, &shown); err != nil {
		t.Fatal(err)
	}
	want := maps.Clone(body["config"].(map[string]any))
	want["provisioner_key"], want["provisioner_password"], want["validity_days"] = "(secret)", "(secret)", 2.0
	if d := cmp.Diff(want, shown.Config); d != "" {
		t.Errorf("config (-want +got):\n%s", d)
	}
	w.test("iss-step")

	// What has been read can be sent back, with one secret changed.
	config := maps.Clone(shown.Config)
	config["provisioner_password"] = "wrong-password"
	var now issuerapi.Issuer
	w.put(http.StatusOK, "updateIssuer", path, map[string]any{"config": config}, "", &now)
	if d := cmp.Diff(shown.Config, now.Config); d != "" {
		t.Errorf("shown after the change:\n%s", d)
	}
	changed, _ := hear(w, func(e event.IssuerChanged) bool { return e.ID == "iss-step" && e.Verb == event.Updated })
	if d := cmp.Diff(event.Changes{"config.provisioner_password": {Before: "(secret)", After: "(secret)"}}, changed.Changes); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	if p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", path+"/test", nil); !strings.Contains(p.Message, "provisioner_password: does not open") {
		t.Errorf("with a wrong password: %q", p.Message)
	}
	// The CA hands out the key that it was made with.
	now = issuerapi.Issuer{}
	w.put(http.StatusOK, "updateIssuer", path, map[string]any{"config": map[string]any{"provisioner_password": stepcatest.Password, "provisioner_key": nil}}, "", &now)
	if _, there := now.Config["provisioner_key"]; there {
		t.Errorf("still there: %v", now.Config)
	}
	w.test("iss-step")
	tag := w.put(http.StatusOK, "updateIssuer", path, map[string]any{"config": now.Config}, "", nil)
	same := map[string]any{"config": map[string]any{"provisioner_password": stepcatest.Password}}
	if again := w.put(http.StatusOK, "updateIssuer", path, same, tag, nil); again != tag {
		t.Error("the same secret again is a change")
	}

	w.settled()
	w.heard.mu.Lock()
	defer w.heard.mu.Unlock()
	for _, h := range w.heard.events {
		if strings.Contains(string(h.Body), stepcatest.Password) || strings.Contains(string(h.Body), "wrong-password") || strings.Contains(string(h.Body), string(s.Key)) {
			t.Errorf("told: %s", h.Body)
		}
	}
	for _, column := range []string{"config::text", "encode(sealed_settings, 'escape')"} {
		if n := w.count(`SELECT count(*) FROM issuers WHERE position($1 in `+column+`) > 0`, stepcatest.Password); n != 0 {
			t.Errorf("%s holds the password", column)
		}
	}
	// Sealed for one issuer, it is of no use in another.
	w.exec(`UPDATE issuer.issuers SET sealed_settings = (SELECT sealed_settings FROM issuer.issuers WHERE id = 'iss-step'), config =
		(SELECT config FROM issuer.issuers WHERE id = 'iss-step'), type = 'StepCA' WHERE id = 'iss-local'`)
	if p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/iss-local/test", nil); !strings.Contains(p.Message, "cannot be opened") {
		t.Errorf("moved to another issuer: %q", p.Message)
	}
}

func TestIssuer_NamesTheSettingsOfAConnectorThatAreWrong(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for name, tt := range map[string]struct {
		kind   string
		config map[string]any
		fields []string
	}{
		"nothing":        {"StepCA", nil, []string{"config.url", "config.provisioner"}},
		"plain HTTP":     {"stepca", map[string]any{"url": "http://ca", "provisioner": "p"}, []string{"config.url"}},
		"no fingerprint": {"stepca", map[string]any{"url": "https://ca", "provisioner": "p", "root_fingerprint": "ab"}, []string{"config.root_fingerprint"}},
		"a number":       {"stepca", map[string]any{"url": "https://ca", "provisioner": 7.0, "validity_days": 0.5}, []string{"config.provisioner", "config.validity_days"}},
		"a placeholder":  {"stepca", map[string]any{"url": "https://ca", "provisioner": "p", "provisioner_password": "(secret)"}, []string{"config.provisioner_password"}},
		"a stranger":     {"stepca", map[string]any{"url": "https://ca", "provisioner": "p", "token": "t"}, []string{"config.token"}},
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, map[string]any{"name": "x", "type": tt.kind, "config": tt.config})
		var fields []string
		for _, e := range p.Errors {
			fields = append(fields, e.Name)
		}
		if d := cmp.Diff(tt.fields, fields); d != "" {
			t.Errorf("%s: fields (-want +got):\n%s", name, d)
		}
	}
}

func TestStepCA_AwayIsToldAndTriedAgainUntilItIsBack(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	s := stepcatest.Start(t)
	i := w.issuer(stepCA(s))
	w.test(i.ID)
	w.target("tgt-1", "agent-1")
	by := w.create(map[string]any{"common_name": "agent.example.com", "issuer_id": i.ID, "target_ids": []string{"tgt-1"}})
	asked := w.keyRequest(by.ID, 1)
	s.Stop()
	w.answer(asked, catest.NewKey(t, ecdsa))
	var reason string
	w.await("the setback", func() bool {
		if r := w.certificate(by.ID).StatusReason; r != nil {
			reason = *r
		}
		return strings.Contains(reason, "next attempt at")
	})
	if !strings.Contains(reason, "cannot be reached") {
		t.Errorf("reason %q", reason)
	}
	p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/"+i.ID+"/test", nil)
	if !strings.Contains(p.Message, "cannot be reached") {
		t.Errorf("tested: %q", p.Message)
	}
	s.Run()
	// The back-off is over.
	w.exec(`UPDATE issuer.jobs SET next_action_at = now() WHERE id = $1`, asked.JobID)
	w.wakeWorker()
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == by.ID })
	w.publish(event.DeploymentCompleted{Deployment: deploymentOf(&issued, "tgt-1")}, 1)
	hear(w, func(e event.CertificateActivated) bool { return e.CertificateID == by.ID })
	if now := w.certificate(by.ID); now.Status != issuerapi.CertificateStatusActive || now.StatusReason != nil {
		t.Errorf("certificate %+v", now)
	}
}

// openSSL is the body that sets up a CA behind the programs in a folder.
func openSSL(t *testing.T, dir string) map[string]any {
	return map[string]any{
		"id": "iss-own", "name": "Own", "type": "openssl", "enabled": true, "config": map[string]any{
			"sign_script": filepath.Join(dir, "sign"), "revoke_script": []string{filepath.Join(dir, "revoke")},
			"crl_script": []string{filepath.Join(dir, "crl")}, "timeout_seconds": 60, "ca_cert_pem": read(t, filepath.Join(dir, "ca.crt")),
		},
	}
}

func TestOpenSSL_SetUpByTheAPIIssuesAndRenews(t *testing.T) {
	w := newWorld(t)
	dir, _ := scripttest.Plain(t)
	w.start(app.Settings{OpenSSL: app.OpenSSL{ScriptDir: dir}})
	i := w.issuer(openSSL(t, dir))
	tested := w.test(i.ID)
	if tested.Subject == nil || *tested.Subject != "CN=Plain CA" || !tested.SignsCrl {
		t.Errorf("tested %+v", tested)
	}
	w.issues(i.ID)
	if err := os.Remove(filepath.Join(dir, "sign")); err != nil {
		t.Fatal(err)
	}
	p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/"+i.ID+"/test", nil)
	if !strings.Contains(p.Message, "sign does not exist") {
		t.Errorf("without its program: %q", p.Message)
	}
}

func TestOpenSSL_RunsNoProgramThatTheOperatorHasNotPutInItsFolder(t *testing.T) {
	w := newWorld(t)
	dir, _ := scripttest.Plain(t)
	if err := os.Symlink("/bin/sh", filepath.Join(dir, "shell")); err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, config map[string]any, says string) {
		t.Helper()
		p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, map[string]any{"id": "iss-openssl", "name": "x", "type": "OpenSSL", "config": config})
		if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Reason, says) {
			t.Errorf("%s: %+v", what, p)
		}
	}
	running := w.start(app.Settings{})
	refuse("with no folder", map[string]any{"sign_script": filepath.Join(dir, "sign")}, "CERTCTL_OPENSSL_SCRIPT_DIR says")
	running.end()
	w.start(app.Settings{OpenSSL: app.OpenSSL{ScriptDir: dir}})
	for what, program := range map[string]any{
		"a shell":            []string{"/bin/sh", "-c", "id"},
		"a way out":          dir + "/../../bin/sh",
		"a link out":         filepath.Join(dir, "shell"),
		"what is not there":  "/nowhere/at/all",
		"a relative path":    "sign",
		"the folder":         dir,
		"a folder next door": dir + "2/sign",
	} {
		refuse(what, map[string]any{"sign_script": program}, "must be a program in "+dir)
	}
	i := w.issuer(openSSL(t, dir))
	p := w.refused(http.StatusBadRequest, http.MethodPut, "updateIssuer", issuers+"/"+i.ID, map[string]any{"config": map[string]any{"crl_script": "/bin/sh"}})
	if len(p.Errors) != 1 || p.Errors[0].Name != "config.crl_script" {
		t.Errorf("changed: %+v", p)
	}
	// What was put there afterwards counts too.
	if err := os.Remove(filepath.Join(dir, "sign")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/sh", filepath.Join(dir, "sign")); err != nil {
		t.Fatal(err)
	}
	if p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/"+i.ID+"/test", nil); !strings.Contains(p.Message, "leads out") {
		t.Errorf("after its program was exchanged: %q", p.Message)
	}
}
