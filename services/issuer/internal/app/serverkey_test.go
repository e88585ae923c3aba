package app_test

import (
	"bytes"
	"crypto"
	ec "crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/x509x"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/vault/vaultfake"
	"github.com/certctl/certctl/services/issuer/internal/postgres"
)

var serverKeys = app.Settings{ServerKeys: true}

// waiting waits until a certificate has a version whose key waits to be fetched, and returns that version.
func (w *world) waiting(id string, count int) (v issuerapi.CertificateVersion) {
	w.t.Helper()
	w.await("a version with a key", func() bool {
		versions := w.versionsOf(id)
		if len(versions) != count {
			return false
		}
		v = versions[0]
		return v.KeyState != nil && *v.KeyState == issuerapi.CertificateVersionKeyStateWaiting
	})
	return v
}

func (w *world) fetch(id string) (k issuerapi.CertificateKey, key crypto.Signer) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPost, "deliverCertificateKey", certificates+"/"+id+"/key", nil, &k)
	key, err := x509x.ParsePrivateKey([]byte(k.PrivateKeyPem))
	if err != nil {
		w.t.Fatal(err)
	}
	return k, key
}

// leafKey is the public key of a version.
func leafKey(t testing.TB, chain string) crypto.PublicKey {
	t.Helper()
	certs, err := x509x.ParseCertificates([]byte(chain))
	if err != nil {
		t.Fatal(err)
	}
	return certs[0].PublicKey
}

// logged is a log that is read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestServerKey_IsMadeSignedAndHandedOutOnce(t *testing.T) {
	w := newWorld(t)
	log := &logged{}
	w.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.start(serverKeys)
	c := w.create(map[string]any{"common_name": "www.example.com", "sans": []string{"10.0.0.7", "example.com"}})
	if c.Warning == nil || !strings.Contains(*c.Warning, "demonstrations") {
		t.Errorf("the answer does not warn: %+v", c)
	}
	v := w.waiting(c.ID, 1)
	now := w.certificate(c.ID)
	if now.Status != issuerapi.CertificateStatusActive || now.StatusReason == nil || !strings.Contains(*now.StatusReason, "/key") {
		t.Errorf("%+v", now)
	}
	hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID && e.KeyAgentID == "" })
	// It can be had in no other way.
	p := w.refused(http.StatusConflict, http.MethodPost, "exportCertificateWithKey", certificates+"/"+c.ID+"/export", exportBody)
	if !strings.Contains(p.Message, "/key") {
		t.Errorf("it says %q", p.Message)
	}
	var sealed []byte
	if err := w.pool.QueryRow(t.Context(), `SELECT sealed_key FROM certificate_keys WHERE certificate_id = $1`, c.ID).Scan(&sealed); err != nil || len(sealed) < 100 {
		t.Fatalf("%d bytes are sealed, %v", len(sealed), err)
	}

	status, header, text := w.exchange(http.MethodPost, "deliverCertificateKey", certificates+"/"+c.ID+"/key", nil, nil)
	var k issuerapi.CertificateKey
	if err := json.Unmarshal(text, &k); err != nil || status != http.StatusOK || header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %v", status, header, err)
	}
	key, err := x509x.ParsePrivateKey([]byte(k.PrivateKeyPem))
	if err != nil {
		t.Fatal(err)
	}
	if !x509x.SameKey(key.Public(), leafKey(t, k.PemChain)) || k.VersionID != v.ID || k.Warning == "" || key.(*ec.PrivateKey).Params().BitSize != 256 {
		t.Errorf("%s for %s", k.VersionID, v.ID)
	}
	p = w.refused(http.StatusConflict, http.MethodPost, "deliverCertificateKey", certificates+"/"+c.ID+"/key", nil)
	if !strings.Contains(p.Message, "delivered") || !strings.Contains(p.Message, "renew") {
		t.Errorf("it says %q", p.Message)
	}
	told, message := hear(w, func(e event.CertificateKeyReleased) bool { return e.CertificateID == c.ID })
	if told.Way != "delivery" || told.VersionID != v.ID || message.Actor != admin.ID {
		t.Errorf("told %+v by %s", told, message.Actor)
	}
	if now := w.certificate(c.ID); now.StatusReason != nil {
		t.Errorf("it still says %q", *now.StatusReason)
	}
	if versions := w.versionsOf(c.ID); *versions[0].KeyState != issuerapi.CertificateVersionKeyStateGone {
		t.Errorf("the key is %s", *versions[0].KeyState)
	}
	// Nothing of it is left, in the clear or sealed, and the log has never seen it.
	w.dumpLacks(key)
	if dump := w.dump(); strings.Contains(dump, hex.EncodeToString(sealed)) {
		t.Error("the sealed key is still in the database")
	}
	secret, err := key.(*ec.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"PRIVATE KEY---", hex.EncodeToString(secret), string(secret)} {
		if strings.Contains(log.String(), form) {
			t.Errorf("the log holds %q", form)
		}
	}
	if !strings.Contains(log.String(), "PRIVATE KEYS ARE MADE BY THIS SERVER") {
		t.Error("the log does not warn")
	}
}

func TestServerKey_IsMadeAnewForEachRenewal(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	c := w.create(map[string]any{"common_name": "www.example.com"})
	first := w.waiting(c.ID, 1)
	if r := w.renew(c.ID, nil); r.Version != nil {
		t.Errorf("renewed at once: %+v", r)
	}
	second := w.waiting(c.ID, 2)
	_, newer := w.fetch(c.ID)
	if !x509x.SameKey(newer.Public(), leafKey(t, second.PemChain)) || x509x.SameKey(newer.Public(), leafKey(t, first.PemChain)) {
		t.Error("the key is not the newest version's")
	}
	// The one before waits as well, until its version ends.
	var k issuerapi.CertificateKey
	w.must(http.StatusOK, http.MethodPost, "deliverCertificateKey", certificates+"/"+c.ID+"/key", map[string]any{"version_id": first.ID}, &k)
	if older, err := x509x.ParsePrivateKey([]byte(k.PrivateKeyPem)); err != nil || !x509x.SameKey(older.Public(), leafKey(t, first.PemChain)) {
		t.Errorf("the older key is another: %v", err)
	}
	// What falls due by itself is given a key too, even if it has ended.
	w.exec(`UPDATE issuer.certificate_versions SET created_at = created_at - interval '200 days', not_before = not_before - interval '200 days', not_after = not_after - interval '200 days'`)
	w.exec(`UPDATE issuer.certificates SET expires_at = expires_at - interval '200 days', created_at = created_at - interval '200 days'`)
	w.renewDue()
	w.waiting(c.ID, 3)
}

// renewDue has the engine look now: anything that is told wakes it.
func (w *world) renewDue() { w.importing(pemOf(w.t, foreignLeaf(w.t, nil, "wake.example.com")), nil) }

func TestServerKey_IsOfTheKindThatTheProfileAllows(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	w.must(http.StatusCreated, http.MethodPost, "createProfile", "/api/v1/profiles", map[string]any{
		"id": "prof-rsa", "name": "RSA", "enabled": true, "allowed_key_algorithms": []any{map[string]any{"algorithm": "RSA", "min_size": 2048}},
	}, nil)
	c := w.create(map[string]any{"common_name": "www.example.com", "certificate_profile_id": "prof-rsa"})
	w.waiting(c.ID, 1)
	if _, key := w.fetch(c.ID); key.(*rsa.PrivateKey).N.BitLen() != 2048 {
		t.Errorf("the key has %d bits", key.(*rsa.PrivateKey).N.BitLen())
	}
}

func TestServerKey_IsForNobodyWhoseKeyIsSomewhereElse(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	w.target("tgt-1", "agent-1")
	w.withTarget("tgt-1")
	own := w.create(map[string]any{"common_name": "own.example.com", "csr_pem": csrFor(t, "own.example.com")})
	if own.Version == nil || own.Warning != nil {
		t.Errorf("%+v", own)
	}
	if n := w.count(`SELECT count(*) FROM certificate_keys`); n != 0 {
		t.Errorf("%d keys were made", n)
	}
	p := w.refused(http.StatusConflict, http.MethodPost, "deliverCertificateKey", certificates+"/"+own.ID+"/key", nil)
	if !strings.Contains(p.Message, "with whoever sent its signing request") {
		t.Errorf("it says %q", p.Message)
	}
}

func TestServerKey_IsNotMadeUnlessThatIsSwitchedOn(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c := w.create(map[string]any{"common_name": "www.example.com"})
	if c.Warning != nil || w.certificate(c.ID).StatusReason == nil || !strings.Contains(*w.certificate(c.ID).StatusReason, "signing request") {
		t.Errorf("%+v", c)
	}
	if n := w.count(`SELECT count(*) FROM certificate_keys`); n != 0 {
		t.Errorf("%d keys were made", n)
	}
}

func TestServerKey_IsHandedToOneOfManyWhoAskAtOnce(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	c := w.create(map[string]any{"common_name": "www.example.com"})
	w.waiting(c.ID, 1)
	statuses := make(chan int)
	for range 8 {
		go func() {
			status, _ := w.try(http.MethodPost, "deliverCertificateKey", certificates+"/"+c.ID+"/key", nil)
			statuses <- status
		}()
	}
	got := map[int]int{}
	for range 8 {
		got[<-statuses]++
	}
	if got[http.StatusOK] != 1 || got[http.StatusConflict] != 7 {
		t.Errorf("answers %v", got)
	}
}

func TestServerKey_IsHandedToNobodyUnlessItIsDeleted(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	c := w.create(map[string]any{"common_name": "www.example.com"})
	w.waiting(c.ID, 1)
	w.exec(`CREATE FUNCTION issuer.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$`)
	w.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON issuer.certificate_keys FOR EACH ROW EXECUTE FUNCTION issuer.refuse()`)
	status, text := w.try(http.MethodPost, "deliverCertificateKey", certificates+"/"+c.ID+"/key", nil)
	if status < 500 || strings.Contains(string(text), "PRIVATE KEY") {
		t.Errorf("%d %s", status, text)
	}
	w.exec(`DROP TRIGGER refuse ON issuer.certificate_keys`)
	w.fetch(c.ID)
}

// inService switches the Local CA on or off.
func (w *world) inService(on bool) {
	w.t.Helper()
	w.must(http.StatusOK, http.MethodPut, "updateIssuer", "/api/v1/issuers/iss-local", map[string]any{"enabled": on}, nil)
}

func TestServerKey_OfAJobThatEndsInVainIsDeleted(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	c := w.create(map[string]any{"common_name": "www.example.com"})
	w.waiting(c.ID, 1)
	// Its issuer is out of service, so that the request is made and waits.
	w.inService(false)
	r := w.renew(c.ID, nil)
	sealed := func() int {
		return w.count(`SELECT count(*) FROM certificate_keys WHERE certificate_id = $1 AND sealed_key IS NOT NULL`, c.ID)
	}
	w.await("the key of the renewal", func() bool { return sealed() == 2 })
	w.must(http.StatusOK, http.MethodPost, "cancelJob", "/api/v1/jobs/"+r.JobID+"/cancel", nil, nil)
	if n := sealed(); n != 1 {
		t.Errorf("%d keys are kept", n)
	}
	w.inService(true)
	// Done again it gets a key of its own, since the one that it had is no more.
	w.must(http.StatusAccepted, http.MethodPost, "retryJob", "/api/v1/jobs/"+r.JobID+"/retry", nil, nil)
	v := w.waiting(c.ID, 2)
	if _, key := w.fetch(c.ID); !x509x.SameKey(key.Public(), leafKey(t, v.PemChain)) {
		t.Error("the key is another's")
	}
}

func TestServerKey_OfAnArchivedCertificateIsDeleted(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	c := w.create(map[string]any{"common_name": "www.example.com"})
	w.waiting(c.ID, 1)
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/"+c.ID, nil, nil)
	if n := w.count(`SELECT count(*) FROM certificate_keys WHERE sealed_key IS NOT NULL`); n != 0 {
		t.Errorf("%d keys are kept", n)
	}
	p := w.refused(http.StatusConflict, http.MethodPost, "deliverCertificateKey", certificates+"/"+c.ID+"/key", nil)
	if !strings.Contains(p.Message, "archived") {
		t.Errorf("it says %q", p.Message)
	}
}

func TestServerKey_ThatNobodyFetchesIsDeletedWhenItsVersionHasEnded(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	ca := foreignCA(t, nil, "CA")
	kept := issued(t, &ca, func(c *x509.Certificate) {
		c.DNSNames, c.NotAfter = []string{"kept.example.com"}, time.Now().Add(80*24*time.Hour)
	})
	w.importing(pemOf(t, kept)+keyPEM(t, kept), map[string]any{"keep_key": true})
	c := w.create(map[string]any{"common_name": "www.example.com"})
	v := w.waiting(c.ID, 1)
	store := postgres.New(w.pool, postgres.Hooks{Told: func() {}, Due: func() {}})
	for _, at := range []struct {
		when time.Time
		want int64
	}{{v.NotAfter, 0}, {v.NotAfter.Add(time.Second), 1}, {v.NotAfter.Add(time.Hour), 0}} {
		if n, err := store.ForgetKeys(t.Context(), at.when); err != nil || n != at.want {
			t.Errorf("at %s %d keys were deleted, %v", at.when, n, err)
		}
	}
	p := w.refused(http.StatusConflict, http.MethodPost, "deliverCertificateKey", certificates+"/"+c.ID+"/key", nil)
	if !strings.Contains(p.Message, "nobody fetched it") {
		t.Errorf("it says %q", p.Message)
	}
	// What was imported to be kept is kept.
	if n := w.count(`SELECT count(*) FROM certificate_keys WHERE sealed_key IS NOT NULL`); n != 1 {
		t.Errorf("%d keys are kept", n)
	}
}

func TestServerKey_WaitsForApprovalLikeAnyOther(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	w.setPolicy("rp-default", map[string]any{"approval_required": true})
	c := w.create(map[string]any{"common_name": "www.example.com"})
	if n := w.count(`SELECT count(*) FROM certificate_keys`); n != 0 {
		t.Errorf("%d keys were made before anybody approved", n)
	}
	w.as = authn.Principal{ID: "key-approver", Kind: authn.KindUser, Roles: []string{"approver"}}
	w.must(http.StatusOK, http.MethodPost, "approveJob", "/api/v1/jobs/"+*c.JobID+"/approve", nil, nil)
	w.waiting(c.ID, 1)
}

func TestServerKey_OutlivesARestartBetweenItsMakingAndItsSigning(t *testing.T) {
	w := newWorld(t)
	i := w.start(serverKeys)
	c := w.create(map[string]any{"common_name": "first.example.com"})
	w.waiting(c.ID, 1)
	// An issuer that is away for a moment leaves the request with its job.
	w.inService(false)
	r := w.renew(c.ID, nil)
	w.await("an attempt to fail", func() bool { j := w.job(r.JobID); return j.LastError != nil })
	var spki string
	if err := w.pool.QueryRow(t.Context(), `SELECT spki_sha256 FROM certificate_keys k WHERE certificate_id = $1 AND sealed_key IS NOT NULL
		AND NOT EXISTS (SELECT FROM certificate_versions v WHERE v.spki_sha256 = k.spki_sha256)`, c.ID).Scan(&spki); err != nil {
		t.Fatal(err)
	}
	i.end()
	w.start(serverKeys)
	w.inService(true)
	v := w.waiting(c.ID, 2)
	certs, err := x509x.ParseCertificates([]byte(v.PemChain))
	if err != nil || x509x.SPKIHash(certs[0].RawSubjectPublicKeyInfo) != spki {
		t.Error(errors.Join(err, errors.New("another key was made for it")))
	}
	if _, key := w.fetch(c.ID); !x509x.SameKey(key.Public(), certs[0].PublicKey) {
		t.Error("its key is another's")
	}
}

func TestServerKey_IsStoredBeforeACAElsewhereIsAsked(t *testing.T) {
	w := newWorld(t)
	w.start(serverKeys)
	s, err := vaultfake.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	i := w.issuer(map[string]any{
		"id": "iss-vault", "name": "Vault", "type": "openbao", "enabled": true, "config": map[string]any{
			"url": s.URL, "namespace": vaultfake.Namespace, "mount": vaultfake.Mount, "role": vaultfake.RoleName,
			"role_id": vaultfake.RoleID, "secret_id": vaultfake.SecretID, "tls_ca_pem": s.Trust(),
		},
	})
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID})
	w.waiting(c.ID, 1)
	w.fetch(c.ID)
	s.Seal(true)
	w.renew(c.ID, nil)
	w.await("the CA to be waited for", func() bool {
		r := w.certificate(c.ID).StatusReason
		return r != nil && strings.Contains(*r, "sealed")
	})
	if n := w.count(`SELECT count(*) FROM certificate_keys k JOIN jobs j USING (certificate_id) WHERE k.sealed_key IS NOT NULL AND j.type = 'Renewal' AND j.csr_pem <> ''`); n != 1 {
		t.Errorf("%d keys lie with their requests", n)
	}
	s.Seal(false)
	v := w.waiting(c.ID, 2)
	if reason := w.certificate(c.ID).StatusReason; reason == nil || !strings.Contains(*reason, "/key") {
		t.Errorf("it says %v", reason)
	}
	if _, key := w.fetch(c.ID); !x509x.SameKey(key.Public(), leafKey(t, v.PemChain)) {
		t.Error("the key is another's")
	}
}
