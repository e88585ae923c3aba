package app_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

const issuers = "/api/v1/issuers"

func (w *world) issuer(body map[string]any) (i issuerapi.Issuer) {
	w.t.Helper()
	w.must(http.StatusCreated, http.MethodPost, "createIssuer", issuers, body, &i)
	return i
}

// verified checks a certificate's chain against an issuer's CA and returns the leaf.
func verified(t *testing.T, c issuerapi.Certificate, i issuerapi.Issuer) *x509.Certificate {
	t.Helper()
	if c.Version == nil || i.CaChainPem == nil {
		t.Fatalf("no version or no CA: %+v %+v", c, i)
	}
	chain, err := x509x.ParseCertificates([]byte(c.Version.PemChain))
	if err != nil {
		t.Fatal(err)
	}
	above, err := x509x.ParseCertificates([]byte(*i.CaChainPem))
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(above[len(above)-1])
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: c.CommonName}); err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

func TestIssuer_MadeByTheAPIIssuesAtOnceInEveryReplica(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	w.start(app.Settings{PublicURL: "http://127.0.0.1:8080"})
	i := w.issuer(map[string]any{
		"id": "iss-staging", "name": "Staging", "type": "Generic_CA", "enabled": true,
		"config": map[string]any{"ca_common_name": "Staging CA", "validity_days": 7, "ca_validity_days": 100},
	})
	want := map[string]any{"mode": "self-signed", "common_name": "Staging CA", "validity_days": 7.0, "ca_validity_days": 100.0}
	if d := cmp.Diff(want, i.Config); d != "" || i.Type != "GenericCA" || !i.Enabled {
		t.Errorf("made %+v\n%s", i, d)
	}
	// Requests go to either replica.
	for n := range 8 {
		name := fmt.Sprintf("host-%d.example.com", n)
		c := w.create(map[string]any{"common_name": name, "issuer_id": i.ID, "csr_pem": csrFor(t, name)})
		leaf := verified(t, c, i)
		if life := leaf.NotAfter.Sub(leaf.NotBefore); leaf.Issuer.CommonName != "Staging CA" || life < 7*24*time.Hour || life > 8*24*time.Hour {
			t.Errorf("leaf of %s for %s", leaf.Issuer, life)
		}
		if !strings.HasSuffix(leaf.CRLDistributionPoints[0], "/crl/iss-staging") {
			t.Errorf("its list is at %v", leaf.CRLDistributionPoints)
		}
	}
	configured, message := hear(w, func(e event.IssuerConfigured) bool { return e.IssuerID == i.ID })
	if configured.CAChainPEM != *i.CaChainPem || !configured.SignsCRL || configured.Type != "GenericCA" || message.AggVersion != 1 {
		t.Errorf("configured %+v, version %d", configured, message.AggVersion)
	}
	reply := ask[command.OCSPResponder](w, "issueOCSPResponder", command.IssueOCSPResponder{
		IssuerID: i.ID, CSRPEM: catest.NewCSR(t, catest.NewKey(t, ecdsa), "responder"),
	})
	if reply.Fault != nil {
		t.Errorf("no OCSP responder: %+v", reply.Fault)
	}
}

func TestIssuer_IsDisabledUnlessItIsAskedFor(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	// Clients of the older API leave it out, and rely on that.
	i := w.issuer(map[string]any{"name": "Quiet", "type": "localCA"})
	if i.Enabled || !strings.HasPrefix(i.ID, "iss-") || i.Config["common_name"] != "Quiet" {
		t.Errorf("made %+v", i)
	}
	request := map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")}
	p := w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates, request)
	if len(p.Errors) != 1 || p.Errors[0].Name != "issuer_id" || !strings.Contains(p.Message, "disabled") {
		t.Errorf("problem %+v", p)
	}
	w.put(http.StatusOK, "updateIssuer", issuers+"/"+i.ID, map[string]any{"enabled": true}, "", nil)
	w.create(request)
}

func TestIssuer_DisabledIssuesNothingAndStillAnswersForWhatItIssued(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.start(app.Settings{})
	i := w.issuer(map[string]any{"name": "CA", "type": "GenericCA", "enabled": true})
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")})
	w.put(http.StatusOK, "updateIssuer", issuers+"/"+i.ID, map[string]any{"enabled": false}, "", nil)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("host-%d.example.com", n)
			status, text := w.try(http.MethodPost, "createCertificate", certificates,
				map[string]any{"common_name": name, "issuer_id": i.ID, "csr_pem": csrFor(t, name)})
			if status != http.StatusBadRequest {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	wg.Wait()
	if r := w.renew(c.ID, map[string]any{"csr_pem": csrFor(t, "www.example.com")}); r.Version != nil {
		t.Errorf("renewed by a disabled issuer: %+v", r)
	}
	reply := ask[command.SignedCRL](w, "signCRL", command.SignCRL{
		IssuerID: i.ID, Number: 1, ThisUpdate: "2026-11-24T00:00:00Z", NextUpdate: "2026-11-25T00:00:00Z",
	})
	if reply.Fault != nil {
		t.Errorf("it signs no list: %+v", reply.Fault)
	}
}

func TestIssuer_KeepsWhatIsSecretToItself(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	certPath, keyPath, root := subordinate(t)
	cert, key := read(t, certPath), read(t, keyPath)
	status, text := w.try(http.MethodPost, "createIssuer", issuers, map[string]any{
		"id": "iss-sub", "name": "Sub", "type": "local", "enabled": true, "config": map[string]any{"ca_cert_pem": cert, "ca_key_pem": key},
	})
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, text)
	}
	var i issuerapi.Issuer
	if err := json.Unmarshal(text, &i); err != nil {
		t.Fatal(err)
	}
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")})
	verified(t, c, i)
	if !strings.Contains(*i.CaChainPem, strings.TrimSpace(string(x509x.EncodePEM(root.Raw)))) {
		t.Error("the chain lacks its root")
	}
	_, read := w.try(http.MethodGet, "getIssuer", issuers+"/"+i.ID, nil)
	_, list := w.try(http.MethodGet, "listIssuers", issuers, nil)
	_, told := hear(w, func(e event.IssuerChanged) bool { return e.ID == i.ID })
	_, configured := hear(w, func(e event.IssuerConfigured) bool { return e.IssuerID == i.ID })
	line := strings.Split(key, "\n")[2]
	for where, shown := range map[string][]byte{
		"answer": text, "record": read, "list": list, "change": told.Body, "event": configured.Body,
	} {
		if strings.Contains(string(shown), line) || strings.Contains(string(shown), "PRIVATE KEY") {
			t.Errorf("the %s shows the key: %s", where, shown)
		}
	}
	changes := told.Event.(event.IssuerChanged).Changes
	if changes["config.ca_key_pem"] != (event.Change{Before: "(secret)", After: "(secret)"}) {
		t.Errorf("told %+v", changes)
	}
	if n := w.count(`SELECT count(*) FROM ca_keys WHERE position('PRIVATE KEY' in encode(sealed_key, 'escape')) > 0`); n != 0 {
		t.Error("the key is stored in the clear")
	}
	if n := w.count(`SELECT count(*) FROM issuers WHERE config::text LIKE '%PRIVATE KEY%'`); n != 0 {
		t.Error("the config holds the key")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestIssuer_NamesWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	certPath, keyPath, _ := subordinate(t)
	_, otherKey, _ := subordinate(t)
	pem := func(cert, key string) map[string]any { return map[string]any{"ca_cert_pem": cert, "ca_key_pem": key} }
	for name, tt := range map[string]struct {
		body           map[string]any
		field, message string
	}{
		"no name":                   {map[string]any{"type": "local"}, "name", "required"},
		"no type":                   {map[string]any{"name": "x"}, "type", "required"},
		"an unknown type":           {map[string]any{"name": "x", "type": "Vault9"}, "type", "GenericCA"},
		"a setting that is missing": {map[string]any{"name": "x", "type": "acme"}, "config.directory_url", "required"},
		"an id":                     {map[string]any{"name": "x", "type": "local", "id": "I"}, "id", "must be"},
		"a setting that is none":    {map[string]any{"name": "x", "type": "local", "config": map[string]any{"password": "hunter2"}}, "config.password", "no setting"},
		"a file":                    {map[string]any{"name": "x", "type": "local", "config": map[string]any{"ca_cert_path": "/etc/passwd"}}, "config.ca_cert_path", "ca_cert_pem"},
		"a validity":                {map[string]any{"name": "x", "type": "local", "config": map[string]any{"validity_days": 0.5}}, "config.validity_days", "whole number"},
		"a common name":             {map[string]any{"name": "x", "type": "local", "config": map[string]any{"common_name": strings.Repeat("x", 65)}}, "config.common_name", "64"},
		"a certificate alone":       {map[string]any{"name": "x", "type": "local", "config": map[string]any{"ca_cert_pem": "x"}}, "config.ca_key_pem", "needed"},
		"another CA's key":          {map[string]any{"name": "x", "type": "local", "config": pem(read(t, certPath), read(t, otherKey))}, "config.ca_cert_pem", "the key is not that"},
		"no key":                    {map[string]any{"name": "x", "type": "local", "config": pem(read(t, certPath), "x")}, "config.ca_key_pem", ""},
		"a key for a certificate":   {map[string]any{"name": "x", "type": "local", "config": pem(read(t, keyPath), read(t, keyPath))}, "config.ca_cert_pem", "private key"},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, tt.body)
			if len(p.Errors) != 1 || p.Errors[0].Name != tt.field || !strings.Contains(p.Message, tt.message) || strings.Contains(p.Message, "hunter2") {
				t.Errorf("problem %+v", p)
			}
		})
	}
	if n := w.count(`SELECT count(*) FROM issuers`); n != 1 {
		t.Errorf("%d issuers are stored", n)
	}
}

func TestIssuer_ChangesWhatIsGivenAndKeepsItsCA(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.start(app.Settings{})
	i := w.issuer(map[string]any{"name": "CA", "type": "local", "enabled": true, "config": map[string]any{"validity_days": 5}})
	path := issuers + "/" + i.ID
	var now issuerapi.Issuer
	// What a client sends that changes one setting of what it has read.
	config := map[string]any{"mode": "self-signed", "common_name": "CA", "ca_validity_days": 3650, "validity_days": 3}
	w.put(http.StatusOK, "updateIssuer", path, map[string]any{"id": i.ID, "type": "local", "config": config}, "", &now)
	i.Config["validity_days"], i.UpdatedAt = 3.0, now.UpdatedAt
	if d := cmp.Diff(i, now); d != "" {
		t.Errorf("more changed than was asked for (-want +got):\n%s", d)
	}
	for range 4 {
		c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")})
		if leaf := verified(t, c, i); leaf.NotAfter.After(time.Now().Add(4 * 24 * time.Hour)) {
			t.Errorf("a replica issues by the settings of before, until %s", leaf.NotAfter)
		}
	}
	now = issuerapi.Issuer{}
	w.put(http.StatusOK, "updateIssuer", path, map[string]any{"name": "CA 2", "config": map[string]any{"validity_days": nil}}, "", &now)
	if _, there := now.Config["validity_days"]; there || now.Name != "CA 2" {
		t.Errorf("changed to %+v", now)
	}
	renamed, message := hear(w, func(e event.IssuerConfigured) bool { return e.IssuerID == i.ID && e.Name == "CA 2" })
	if message.AggVersion != 2 || renamed.CAChainPEM != *i.CaChainPem {
		t.Errorf("told %+v", renamed)
	}
	// It is told behind the other.
	hear(w, func(e event.IssuerChanged) bool { return e.ID == i.ID && e.Name == "CA 2" })
	changed := all(w.heard, func(e event.IssuerChanged) bool { return e.ID == i.ID && e.Verb == event.Updated })
	if want := (event.Changes{"config.validity_days": {Before: 5.0, After: 3.0}}); len(changed) != 2 ||
		cmp.Diff(want, changed[0].Event.(event.IssuerChanged).Changes) != "" {
		t.Errorf("told %+v", changed)
	}
	for field, body := range map[string]map[string]any{
		"type":               {"type": "ACME"},
		"name":               {"name": " "},
		"config.common_name": {"config": map[string]any{"common_name": "Other"}},
		"config.ca_key_pem":  {"config": map[string]any{"ca_key_pem": "x"}},
		"config.nonsense":    {"config": map[string]any{"nonsense": 1}},
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPut, "updateIssuer", path, body)
		if len(p.Errors) != 1 || p.Errors[0].Name != field {
			t.Errorf("%v: fields %+v", body, p.Errors)
		}
	}
	w.refused(http.StatusNotFound, http.MethodPut, "updateIssuer", issuers+"/iss-none", map[string]any{"name": "x"})
}

func TestIssuer_InUseIsNotRemovedAndItsUsersAreListed(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	i := w.issuer(map[string]any{"id": "iss-a", "name": "A", "type": "local", "enabled": true})
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "www.example.com")})
	p := w.refused(http.StatusConflict, http.MethodDelete, "deleteIssuer", issuers+"/iss-a", nil)
	if !strings.Contains(p.Message, "1 certificate ("+c.ID+")") || !strings.Contains(p.Message, c.Version.ID) {
		t.Errorf("message %q", p.Message)
	}
	// What it has issued stays its own, when the certificate has gone elsewhere.
	w.put(http.StatusOK, "updateCertificate", certificates+"/"+c.ID, map[string]any{"issuer_id": "iss-local"}, "", nil)
	p = w.refused(http.StatusConflict, http.MethodDelete, "deleteIssuer", issuers+"/iss-a", nil)
	if strings.Contains(p.Message, c.ID) || !strings.Contains(p.Message, c.Version.ID) {
		t.Errorf("message %q", p.Message)
	}
	w.refused(http.StatusConflict, http.MethodDelete, "deleteIssuer", issuers+"/iss-local", nil)

	w.issuer(map[string]any{"id": "iss-b", "name": "B", "type": "local", "enabled": true})
	w.refused(http.StatusConflict, http.MethodPost, "createIssuer", issuers, map[string]any{"id": "iss-b", "name": "B", "type": "local"})
	w.must(http.StatusNoContent, http.MethodDelete, "deleteIssuer", issuers+"/iss-b", nil, nil)
	w.refused(http.StatusNotFound, http.MethodGet, "getIssuer", issuers+"/iss-b", nil)
	w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates, map[string]any{"common_name": "www.example.com", "issuer_id": "iss-b"})
	if n := w.count(`SELECT count(*) FROM ca_keys WHERE issuer_id = 'iss-b'`); n != 0 {
		t.Error("its key is still there")
	}
	gone, _ := hear(w, func(e event.IssuerChanged) bool { return e.ID == "iss-b" && e.Verb == event.Deleted })
	if gone.Changes["type"] != (event.Change{Before: "GenericCA"}) {
		t.Errorf("told %+v", gone)
	}
}

// The test opens the CA as it would be to issue; that its row exists proves nothing.
func TestIssuer_TestSaysWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	i := w.issuer(map[string]any{"id": "iss-a", "name": "A", "type": "local"})
	versions := w.count(`SELECT count(*) FROM certificate_versions`)
	for _, issuerID := range []string{"iss-a", "iss-local"} {
		var tested issuerapi.IssuerTested
		w.must(http.StatusOK, http.MethodPost, "testIssuer", issuers+"/"+issuerID+"/test", nil, &tested)
		if tested.Status != "connection_successful" || tested.Subject == nil || tested.NotAfter == nil || !tested.SignsCrl {
			t.Errorf("%s: %+v", issuerID, tested)
		}
	}
	if w.count(`SELECT count(*) FROM certificate_versions`) != versions {
		t.Error("the test has issued something")
	}
	path := issuers + "/" + i.ID + "/test"
	w.exec(`UPDATE issuer.ca_keys SET sealed_key = set_byte(sealed_key, 40, get_byte(sealed_key, 40) # 1) WHERE issuer_id = 'iss-a'`)
	if p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", path, nil); !strings.Contains(p.Message, "damaged") {
		t.Errorf("with a damaged key: %q", p.Message)
	}
	w.exec(`DELETE FROM issuer.ca_keys WHERE issuer_id = 'iss-a'`)
	if p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", path, nil); !strings.Contains(p.Message, "no key") {
		t.Errorf("without its key: %q", p.Message)
	}
	w.exec(`UPDATE issuer.issuers SET type = 'Elsewhere' WHERE id = 'iss-a'`)
	if p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", path, nil); !strings.Contains(p.Message, "no connector") {
		t.Errorf("without a connector: %q", p.Message)
	}
	w.refused(http.StatusNotFound, http.MethodPost, "testIssuer", issuers+"/iss-none/test", nil)
}

// One issuer that is broken takes nothing else down with it.
func TestRestart_LeavesABrokenIssuerOutOfService(t *testing.T) {
	w := newWorld(t)
	first := w.start(app.Settings{})
	w.issuer(map[string]any{"id": "iss-a", "name": "A", "type": "local", "enabled": true})
	w.issuer(map[string]any{"id": "iss-b", "name": "B", "type": "local", "enabled": true})
	first.end()
	w.exec(`DELETE FROM issuer.ca_keys WHERE issuer_id = 'iss-a'`)
	w.start(app.Settings{})
	waiting := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": "iss-a", "csr_pem": csrFor(t, "www.example.com")})
	w.await("the certificate to say what it waits for", func() bool {
		reason := w.certificate(waiting.ID).StatusReason
		return reason != nil && strings.Contains(*reason, "no key") && strings.Contains(*reason, "next attempt at ")
	})
	w.create(map[string]any{"common_name": "www.example.com", "issuer_id": "iss-b", "csr_pem": csrFor(t, "www.example.com")})
	hear(w, func(e event.IssuerConfigured) bool { return e.IssuerID == "iss-b" })
	if told := all(w.heard, func(e event.IssuerConfigured) bool { return e.IssuerID == "iss-b" }); len(told) != 1 {
		t.Errorf("told %d times of the same CA", len(told))
	}
}
