package app_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

const publicURL = "http://127.0.0.1:8080"

func parsed(t *testing.T, text string) []*x509.Certificate {
	t.Helper()
	certs, err := x509x.ParseCertificates([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func (w *world) rollOver(issuerID string, body map[string]any) (k issuerapi.IssuerKey) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPost, "rollOverIssuer", issuers+"/"+issuerID+"/rollover", body, &k)
	return k
}

func (w *world) keys(issuerID string) (l issuerapi.IssuerKeyList) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodGet, "listIssuerKeys", issuers+"/"+issuerID+"/keys", nil, &l)
	return l
}

// leafOf has an issuer issue and returns what is served, leaf first.
func (w *world) leafOf(t *testing.T, issuerID, name string) []*x509.Certificate {
	t.Helper()
	c := w.create(map[string]any{"common_name": name, "issuer_id": issuerID, "csr_pem": csrFor(t, name)})
	if c.Version == nil {
		t.Fatalf("no version: %+v", c)
	}
	return parsed(t, c.Version.PemChain)
}

// verifies has openssl verify a served chain up to a root.
func verifies(t *testing.T, root *x509.Certificate, served []*x509.Certificate) error {
	t.Helper()
	dir := t.TempDir()
	for name, certs := range map[string][]*x509.Certificate{"root": {root}, "between": served, "leaf": served[:1]} {
		if err := os.WriteFile(filepath.Join(dir, name), x509x.EncodeCertificates(certs...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "openssl", "verify", "-x509_strict", "-CAfile", "root", "-untrusted", "between", "leaf")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (w *world) signedList(t *testing.T, issuerID, keyID string) *x509.RevocationList {
	t.Helper()
	reply := ask[command.SignedCRL](w, "signCRL", command.SignCRL{
		IssuerID: issuerID, KeyID: keyID, Number: 1, ThisUpdate: "2026-11-24T00:00:00Z", NextUpdate: "2026-11-25T00:00:00Z",
	})
	if reply.Fault != nil {
		t.Fatalf("no list of %s: %+v", keyID, reply.Fault)
	}
	list, err := x509.ParseRevocationList(reply.Body.DER)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestRollover_OldAndNewStandSideBySide also restarts in the midst of it, and undoes it.
func TestRollover_OldAndNewStandSideBySide(t *testing.T) {
	w := newWorld(t)
	settings := app.Settings{PublicURL: publicURL}
	first := w.start(settings)
	w.start(settings)
	const of = "iss-local"
	oldLeaf := w.leafOf(t, of, "old.example.com")
	before := w.keys(of)
	if before.Total != 1 || !before.Data[0].Active || before.Data[0].KeyAlgorithm != "ECDSA-P256" || *before.Data[0].ValidCertificates != 1 {
		t.Fatalf("keys before %+v", before)
	}
	oldRoot := parsed(t, *before.Data[0].CaChainPem)[0]
	next := w.rollOver(of, map[string]any{"cross_sign": true, "common_name": "Local CA G2", "key_algorithm": "rsa-2048", "ca_validity_days": 400})
	if !next.Active || next.KeyAlgorithm != "RSA-2048" || *next.Subject != "CN=Local CA G2" || next.CrossNotAfter == nil {
		t.Errorf("the new key %+v", next)
	}
	newRoot := parsed(t, *next.CaChainPem)[0]

	// From then on every replica signs with the new key, and whoever trusts either root verifies it.
	for n := range 6 {
		served := w.leafOf(t, of, fmt.Sprintf("new-%d.example.com", n))
		for _, root := range []*x509.Certificate{oldRoot, newRoot} {
			if err := verifies(t, root, served); err != nil {
				t.Error(err)
			}
		}
		if leaf := served[0]; !strings.HasSuffix(leaf.CRLDistributionPoints[0], "/crl/"+next.ID) || !strings.HasSuffix(leaf.OCSPServer[0], "/ocsp/"+next.ID) {
			t.Errorf("it points to %v %v", leaf.CRLDistributionPoints, leaf.OCSPServer)
		}
	}
	if err := verifies(t, oldRoot, oldLeaf); err != nil {
		t.Error(err)
	}
	configured, _ := hear(w, func(e event.IssuerConfigured) bool { return len(e.Authorities) == 2 })
	if a := configured.Authorities; a[0].ID != of || a[1].ID != next.ID || a[0].Active || !a[1].Active || !a[0].SignsCRL || !a[1].SignsCRL ||
		configured.CAChainPEM != a[1].CAChainPEM {
		t.Errorf("configured %+v", configured)
	}
	changed, message := hear(w, func(e event.IssuerChanged) bool { return e.ID == of && e.Changes["ca_key"].After == next.ID })
	if message.Actor != admin.ID || changed.Changes["ca_key"].Before != before.Data[0].ID {
		t.Errorf("changed %+v by %s", changed, message.Actor)
	}

	// A restart finds it as it was; the old key answers for what it issued.
	first.end()
	w.start(settings)
	for keyID, root := range map[string]*x509.Certificate{before.Data[0].ID: oldRoot, next.ID: newRoot, "": newRoot} {
		if err := w.signedList(t, of, keyID).CheckSignatureFrom(root); err != nil {
			t.Errorf("the list of key %q: %v", keyID, err)
		}
		reply := ask[command.OCSPResponder](w, "issueOCSPResponder", command.IssueOCSPResponder{
			IssuerID: of, KeyID: keyID, CSRPEM: catest.NewCSR(t, catest.NewKey(t, ecdsa), "responder"),
		})
		if reply.Fault != nil {
			t.Fatalf("%+v", reply.Fault)
		}
		if err := parsed(t, reply.Body.PEMChain)[0].CheckSignatureFrom(root); err != nil {
			t.Errorf("the responder of key %q: %v", keyID, err)
		}
	}
	after := w.keys(of)
	if after.Total != 2 || *after.Data[0].ValidCertificates != 1 || *after.Data[1].ValidCertificates != 6 || after.Data[0].Status != "inactive" {
		t.Errorf("keys after %+v", after)
	}

	// Undone, the old key signs again, and the new one answers for what it issued.
	var back issuerapi.IssuerKey
	for range 2 {
		w.must(http.StatusOK, http.MethodPost, "activateIssuerKey", issuers+"/"+of+"/keys/"+before.Data[0].ID+"/activate", nil, &back)
	}
	if served := w.leafOf(t, of, "again.example.com"); !back.Active || verifies(t, oldRoot, served) != nil || len(served) != 1 {
		t.Errorf("after the rollover was undone, %+v signs %d certificates", back, len(served))
	}
	if err := w.signedList(t, of, next.ID).CheckSignatureFrom(newRoot); err != nil {
		t.Error(err)
	}
	w.refused(http.StatusNotFound, http.MethodPost, "activateIssuerKey", issuers+"/"+of+"/keys/cak-none/activate", nil)
}

func TestRollover_IsForThoseWhoMayChangeTheIssuer(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.as = authn.Principal{ID: "key-x", Kind: authn.KindUser, Roles: []string{"admin"}, Scope: authn.Scope{Teams: []string{"t-default"}}}
	w.refused(http.StatusForbidden, http.MethodPost, "rollOverIssuer", issuers+"/iss-local/rollover", map[string]any{})
	w.as.Scope = authn.Scope{Issuers: []string{"iss-other"}}
	w.refused(http.StatusNotFound, http.MethodPost, "rollOverIssuer", issuers+"/iss-local/rollover", map[string]any{})
	w.refused(http.StatusNotFound, http.MethodGet, "listIssuerKeys", issuers+"/iss-local/keys", nil)
	w.as = admin
	if n := w.count(`SELECT count(*) FROM ca_keys`); n != 1 {
		t.Errorf("%d keys", n)
	}
}

func TestRollover_IsNotForACAOfFiles(t *testing.T) {
	w := newWorld(t)
	certPath, keyPath, _ := subordinate(t)
	w.start(app.Settings{}).end()
	w.start(app.Settings{CACertPath: certPath, CAKeyPath: keyPath})
	if l := w.keys("iss-local"); l.Total != 1 || l.Data[0].Active || l.Data[0].Status != "inactive" {
		t.Errorf("the key before the files is shown as %+v", l.Data)
	}
	for operation, path := range map[string]string{"rollOverIssuer": "/rollover", "createIssuerCARequest": "/ca-request"} {
		p := w.refused(http.StatusConflict, http.MethodPost, operation, issuers+"/iss-local"+path, map[string]any{})
		if !strings.Contains(p.Message, "CERTCTL_CA_CERT_PATH") {
			t.Errorf("%+v", p)
		}
	}
}

func TestRollover_OfManyAtOnceOneIsMadeAndTheOthersAreToldToLookAgain(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.start(app.Settings{})
	w.keys("iss-local")
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for range 4 {
		wg.Go(func() {
			status, text := w.try(http.MethodPost, "rollOverIssuer", issuers+"/iss-local/rollover", map[string]any{})
			mu.Lock()
			defer mu.Unlock()
			count[status]++
			if status != http.StatusOK && status != http.StatusConflict {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	wg.Wait()
	if made := w.count(`SELECT count(*) FROM ca_keys`) - 1; made != count[http.StatusOK] || made == 0 || w.count(`SELECT count(*) FROM ca_keys WHERE active`) != 1 {
		t.Errorf("%v, %d keys made", count, made)
	}
}

func TestIntermediate_StandsBelowAnotherIssuer(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{PublicURL: publicURL})
	root := w.issuer(map[string]any{"id": "iss-root", "name": "Root", "type": "local", "enabled": true, "config": map[string]any{"max_path_len": 1}})
	i := w.issuer(map[string]any{
		"id": "iss-mid", "name": "Issuing", "type": "local", "enabled": true, "config": map[string]any{
			"parent_issuer_id": "iss-root", "key_algorithm": "Ed25519", "validity_days": 5,
			"permitted_dns_domains": []string{"corp.example"}, "excluded_ip_ranges": []string{"10.9.0.0/16"},
		},
	})
	if i.Config["mode"] != "intermediate" || i.Config["max_path_len"] != 0.0 || i.CaNotAfter == nil || i.CaExpiryWarning != nil {
		t.Errorf("made %+v", i)
	}
	top := parsed(t, *root.CaChainPem)[0]
	served := w.leafOf(t, "iss-mid", "www.corp.example")
	if err := verifies(t, top, served); err != nil || len(served) != 2 {
		t.Errorf("%d served: %v", len(served), err)
	}
	// What the CA must not issue for is refused, and never retried.
	p := w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates,
		map[string]any{"common_name": "www.other.example", "issuer_id": "iss-mid", "csr_pem": csrFor(t, "www.other.example")})
	if text, _ := json.Marshal(p); !strings.Contains(string(text), "permits only corp.example") {
		t.Errorf("%s", text)
	}
	// The parent's rollover leaves it as it is; its own is signed by the parent's new key.
	newRoot := parsed(t, *w.rollOver("iss-root", map[string]any{"cross_sign": true}).CaChainPem)[0]
	if err := verifies(t, top, w.leafOf(t, "iss-mid", "a.corp.example")); err != nil {
		t.Error(err)
	}
	k := w.rollOver("iss-mid", map[string]any{})
	served = w.leafOf(t, "iss-mid", "b.corp.example")
	for _, root := range []*x509.Certificate{top, newRoot} {
		if err := verifies(t, root, served); err != nil {
			t.Errorf("up to %s: %v", root.Subject, err)
		}
	}
	if k.KeyAlgorithm != "Ed25519" || len(parsed(t, *k.CaChainPem)[0].PermittedDNSDomains) != 1 {
		t.Errorf("the next key of the intermediate %+v", k)
	}
	p = w.refused(http.StatusConflict, http.MethodDelete, "deleteIssuer", issuers+"/iss-root", nil)
	if !strings.Contains(p.Message, "iss-mid") {
		t.Errorf("%+v", p)
	}
}

func TestIntermediate_NamesWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.issuer(map[string]any{"id": "iss-off", "name": "Off", "type": "local"})
	w.issuer(map[string]any{"id": "iss-narrow", "name": "Narrow", "type": "local", "enabled": true, "config": map[string]any{"max_path_len": 0}})
	for field, tt := range map[string]struct {
		config map[string]any
		says   string
	}{
		"config.parent_issuer_id":      {map[string]any{"parent_issuer_id": "iss-none"}, "there is no issuer"},
		"config.parent_issuer_id ":     {map[string]any{"parent_issuer_id": "iss-off"}, "disabled"},
		"config.parent_issuer_id  ":    {map[string]any{"parent_issuer_id": "iss-narrow"}, "allows no CA below it"},
		"config.key_algorithm":         {map[string]any{"key_algorithm": "RSA-1024"}, "must be one of ECDSA-P256"},
		"config.max_path_len":          {map[string]any{"parent_issuer_id": "iss-local", "max_path_len": -1}, "whole number from 0"},
		"config.permitted_dns_domains": {map[string]any{"permitted_dns_domains": []string{"*.example.com"}}, "is no domain"},
		"config.permitted_ip_ranges":   {map[string]any{"permitted_ip_ranges": []string{"10.0.0.0/64"}}, "is no range"},
		"config.mode":                  {map[string]any{"mode": "external", "ca_validity_days": 10}, "whoever signs its request"},
		"config.ca_key_password":       {map[string]any{"ca_key_password": "x"}, "ca_key_pem, which is missing"},
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, map[string]any{"name": "X", "type": "local", "config": tt.config})
		if len(p.Errors) != 1 || p.Errors[0].Name != strings.TrimSpace(field) || !strings.Contains(p.Errors[0].Reason, tt.says) {
			t.Errorf("%s: %+v", field, p)
		}
	}
	p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuer", issuers, map[string]any{"id": "cak-mine", "name": "X", "type": "local"})
	if len(p.Errors) != 1 || p.Errors[0].Name != "id" {
		t.Errorf("%+v", p)
	}
	if n := w.count(`SELECT count(*) FROM issuers`); n != 3 {
		t.Errorf("%d issuers", n)
	}
}

// TestRequest_IsSignedOutsideAndHandedIn goes the way of an offline root twice, with a restart before each answer.
func TestRequest_IsSignedOutsideAndHandedIn(t *testing.T) {
	w := newWorld(t)
	settings := app.Settings{PublicURL: publicURL}
	running := w.start(settings)
	i := w.issuer(map[string]any{
		"id": "iss-out", "name": "Issuing", "type": "local", "enabled": true, "config": map[string]any{"mode": "external", "key_algorithm": "ECDSA-P384"},
	})
	const path = issuers + "/iss-out/ca-request"
	if i.CaChainPem != nil || w.keys("iss-out").Data[0].Status != "pending" {
		t.Errorf("made %+v", i)
	}
	p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/iss-out/test", nil)
	if !strings.Contains(p.Message, "ca-request") {
		t.Errorf("%+v", p)
	}
	w.refused(http.StatusConflict, http.MethodPost, "activateIssuerKey", issuers+"/iss-out/keys/"+w.keys("iss-out").Data[0].ID+"/activate", nil)
	root := newOfflineRoot(t)
	var asked issuerapi.IssuerCARequest
	w.must(http.StatusOK, http.MethodGet, "getIssuerCARequest", path, nil, &asked)
	running.end()
	running = w.start(settings)
	hand := func(text string) map[string]any { return map[string]any{"ca_cert_pem": text} }
	p = w.refused(http.StatusBadRequest, http.MethodPost, "completeIssuerCARequest", issuers+"/iss-out/ca-certificate", hand(root.text))
	if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Reason, "the key is not that of the first certificate") {
		t.Errorf("%+v", p)
	}
	var first, second issuerapi.IssuerKey
	w.must(http.StatusOK, http.MethodPost, "completeIssuerCARequest", issuers+"/iss-out/ca-certificate", hand(root.sign(t, asked.CsrPem)+root.text), &first)
	served := w.leafOf(t, "iss-out", "www.example.com")
	if err := verifies(t, root.cert, served); err != nil || first.KeyAlgorithm != "ECDSA-P384" || !strings.HasSuffix(served[0].CRLDistributionPoints[0], "/crl/iss-out") {
		t.Errorf("%v, key %+v", err, first)
	}
	w.refused(http.StatusNotFound, http.MethodGet, "getIssuerCARequest", path, nil)
	w.refused(http.StatusConflict, http.MethodPost, "completeIssuerCARequest", issuers+"/iss-out/ca-certificate", hand(root.text))
	p = w.refused(http.StatusConflict, http.MethodPost, "rollOverIssuer", issuers+"/iss-out/rollover", map[string]any{})
	if !strings.Contains(p.Message, "ca-request") {
		t.Errorf("%+v", p)
	}

	// Its next key goes the same way; a request that is made again takes the place of the one before.
	var dropped issuerapi.IssuerCARequest
	w.must(http.StatusOK, http.MethodPost, "createIssuerCARequest", path, map[string]any{}, &dropped)
	w.must(http.StatusOK, http.MethodPost, "createIssuerCARequest", path, map[string]any{"common_name": "Issuing 2", "key_algorithm": "RSA-2048"}, &asked)
	running.end()
	w.start(settings)
	if err := verifies(t, root.cert, w.leafOf(t, "iss-out", "between.example.com")); err != nil {
		t.Error(err)
	}
	w.refused(http.StatusBadRequest, http.MethodPost, "completeIssuerCARequest", issuers+"/iss-out/ca-certificate", hand(root.sign(t, dropped.CsrPem)))
	w.must(http.StatusOK, http.MethodPost, "completeIssuerCARequest", issuers+"/iss-out/ca-certificate", hand(root.sign(t, asked.CsrPem)+root.text), &second)
	served = w.leafOf(t, "iss-out", "new.example.com")
	if err := verifies(t, root.cert, served); err != nil || served[0].Issuer.CommonName != "Issuing 2" || !strings.HasSuffix(served[0].CRLDistributionPoints[0], "/crl/"+second.ID) {
		t.Errorf("%v: %s, %v", err, served[0].Issuer, served[0].CRLDistributionPoints)
	}
	if l := w.keys("iss-out"); l.Total != 2 || *l.Data[0].ValidCertificates != 2 || *l.Data[1].ValidCertificates != 1 {
		t.Errorf("keys %+v", l)
	}
	if n := w.count(`SELECT count(*) FROM ca_keys WHERE position('PRIVATE KEY' in encode(sealed_key, 'escape')) > 0`); n != 0 {
		t.Error("a key is stored in the clear")
	}
}

func TestKeys_OfARootCountTheCAsBelowWhileTheyAreInUse(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{PublicURL: publicURL})
	w.issuer(map[string]any{"id": "iss-root", "name": "Root", "type": "local", "enabled": true, "config": map[string]any{}})
	w.issuer(map[string]any{
		"id": "iss-web", "name": "Web", "type": "local", "enabled": true, "config": map[string]any{"parent_issuer_id": "iss-root"},
	})
	valid := func() (counts []int64) {
		for _, k := range w.keys("iss-root").Data {
			counts = append(counts, *k.ValidCertificates)
		}
		return counts
	}
	want := func(when string, counts ...int64) {
		t.Helper()
		if got := valid(); !slices.Equal(got, counts) {
			t.Errorf("%s: %v, want %v", when, got, counts)
		}
	}
	want("one CA below it", 1)
	w.leafOf(t, "iss-web", "www.example.com")
	w.rollOver("iss-root", map[string]any{"cross_sign": true})
	want("the one below still hangs on the old root", 1, 0)
	w.rollOver("iss-web", map[string]any{})
	want("so does the certificate that its old key issued", 1, 1)
	w.exec(`UPDATE certificate_versions SET not_after = now() - interval '1 hour'`)
	want("when that has ended the old root may go", 0, 1)
}

func TestEnd_OfACAIsToldOnceForEachThresholdAlsoAcrossRestarts(t *testing.T) {
	w := newWorld(t)
	settings := app.Settings{RenewalSweep: 50 * time.Millisecond}
	running := w.start(settings)
	w.start(settings)
	handedOver := func(id string, enabled bool, life time.Duration) issuerapi.Issuer {
		cert, key := endingCA(t, life)
		return w.issuer(map[string]any{
			"id": id, "name": id, "type": "local", "enabled": enabled, "config": map[string]any{"ca_cert_pem": cert, "ca_key_pem": key},
		})
	}
	handedOver("iss-a-off", false, 25*24*time.Hour)
	i := handedOver("iss-b", true, 25*24*time.Hour)
	if i.CaExpiryWarning == nil || !strings.Contains(*i.CaExpiryWarning, "/api/v1/issuers/iss-b/ca-request") || i.CaNotAfter == nil {
		t.Errorf("the record says %+v", i)
	}
	told, message := hear(w, func(e event.IssuerExpiring) bool { return e.IssuerID == "iss-b" })
	if told.Threshold != 30 || told.DaysLeft != 24 || !told.CutsShort || told.Subject != "CN=Ending" || message.Actor != "system" ||
		!strings.Contains(told.Advice, "ends with it") {
		t.Errorf("told %+v by %s", told, message.Actor)
	}
	running.end()
	w.start(settings)
	// Issuers are looked at together, in the order of their ids.
	for _, id := range []string{"iss-c", "iss-d"} {
		handedOver(id, true, 6*24*time.Hour)
		if told, _ := hear(w, func(e event.IssuerExpiring) bool { return e.IssuerID == id }); told.Threshold != 7 {
			t.Errorf("told %+v", told)
		}
	}
	if n := len(all(w.heard, func(event.IssuerExpiring) bool { return true })); n != 3 {
		t.Errorf("told %d times", n)
	}
}

func TestEnd_OfACAThatCutsALeafShortIsToldWithTheLeaf(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.issuer(map[string]any{"id": "iss-short", "name": "Short", "type": "local", "enabled": true, "config": map[string]any{"ca_validity_days": 20}})
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": "iss-short", "csr_pem": csrFor(t, "www.example.com")})
	if c.StatusReason == nil || !strings.Contains(*c.StatusReason, "its CA's own certificate") {
		t.Errorf("status reason %v", c.StatusReason)
	}
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	if !issued.EndsWithCA {
		t.Error("the event does not say so")
	}
	c = w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	if issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID }); issued.EndsWithCA || c.StatusReason != nil {
		t.Errorf("a leaf that is not cut short: %+v %v", issued, c.StatusReason)
	}
}
