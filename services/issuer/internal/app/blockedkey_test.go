package app_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

const blockedKeys = "/api/v1/blocked-keys"

func (w *world) block(body object) (k issuerapi.BlockedKey) {
	w.t.Helper()
	w.must(http.StatusCreated, http.MethodPost, "blockKey", blockedKeys, body, &k)
	return k
}

func TestBlockedKey_IsRefusedByWhicheverWayItComes(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	key := catest.NewKey(t, ecdsa)
	csr := catest.NewCSR(t, key, "www.example.com", "www.example.com")
	c := w.create(object{"common_name": "www.example.com", "csr_pem": csr})
	k := w.block(object{"certificate_pem": c.Version.PemChain, "reason": "keyCompromise", "comment": "found on a stick"})
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if hash := sha256.Sum256(spki); k.BlockedBy != "key-admin" || k.ID != hex.EncodeToString(hash[:]) {
		t.Errorf("blocked %+v", k)
	}
	refused := func(method, operation, path string, body object) {
		t.Helper()
		p := w.refused(http.StatusBadRequest, method, operation, path, body)
		if len(p.Errors) != 1 || p.Errors[0].Name != "csr_pem" || !strings.Contains(p.Errors[0].Reason, "this key is blocked: it is compromised; make a new key") {
			t.Errorf("%s: %+v", operation, p)
		}
	}
	refused(http.MethodPost, "createCertificate", certificates, object{"common_name": "www.example.com", "csr_pem": csr})
	refused(http.MethodPost, "renewCertificate", certificates+"/"+c.ID+"/renew", object{"csr_pem": csr})
	waiting := w.create(object{"common_name": "www.example.com"})
	refused(http.MethodPost, "submitCertificateCSR", certificates+"/"+waiting.ID+"/csr", object{"csr_pem": csr})

	w.target("tgt-1", "agent-1")
	by := w.create(object{"common_name": "agent.example.com", "target_ids": []string{"tgt-1"}})
	w.answer(w.keyRequest(by.ID, 1), key)
	failed, _ := hear(w, func(e event.CertificateFailed) bool { return e.CertificateID == by.ID })
	if !strings.Contains(failed.Reason, "this key is blocked") {
		t.Errorf("the agent's job failed: %q", failed.Reason)
	}

	told, _ := hear(w, func(e event.BlockedKeyChanged) bool { return e.ID == k.ID && e.Verb == event.Created })
	if told.Changes["reason"].After != "keyCompromise" {
		t.Errorf("told %+v", told)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "unblockKey", blockedKeys+"/"+k.ID, nil, nil)
	hear(w, func(e event.BlockedKeyChanged) bool { return e.ID == k.ID && e.Verb == event.Deleted })
	w.create(object{"common_name": "www.example.com", "csr_pem": csr})
}

func TestBlockedKey_IsRefusedByEveryReplica(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.start(app.Settings{})
	csr := csrFor(t, "www.example.com")
	// Both have read which keys are blocked.
	for range 20 {
		w.create(object{"common_name": "www.example.com", "csr_pem": csr})
	}
	w.block(object{"csr_pem": csr, "reason": "other"})
	inRow := 0
	w.await("both to refuse it", func() bool {
		status, _ := w.try(http.MethodPost, "createCertificate", certificates, object{"common_name": "www.example.com", "csr_pem": csr})
		if inRow++; status != http.StatusBadRequest {
			inRow = 0
		}
		return inRow == 20
	})
}

func TestBlockedKeys_AreListedShownAndTakenOffOnce(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	spki, err := x509.MarshalPKIXPublicKey(catest.NewKey(t, "Ed25519").Public())
	if err != nil {
		t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	first := w.block(object{"public_key_pem": public, "reason": "weak", "comment": "made by a broken generator"})
	second := w.block(object{"spki_sha256": strings.Repeat("AB", 32), "reason": "other"})
	w.refused(http.StatusConflict, http.MethodPost, "blockKey", blockedKeys, object{"public_key_pem": public, "reason": "other"})

	var list issuerapi.BlockedKeyList
	w.must(http.StatusOK, http.MethodGet, "listBlockedKeys", blockedKeys+"?per_page=1", nil, &list)
	if list.Total != 2 || len(list.Data) != 1 || list.Data[0].ID != second.ID || list.NextCursor == nil {
		t.Fatalf("the newest: %+v", list)
	}
	var rest issuerapi.BlockedKeyList
	w.must(http.StatusOK, http.MethodGet, "listBlockedKeys", blockedKeys+"?per_page=1&cursor="+*list.NextCursor, nil, &rest)
	if len(rest.Data) != 1 || rest.Data[0] != first || rest.NextCursor != nil {
		t.Errorf("the other: %+v, want %+v", rest, first)
	}
	w.must(http.StatusOK, http.MethodGet, "listBlockedKeys", blockedKeys+"?reason=weak", nil, &rest)
	if len(rest.Data) != 1 || rest.Data[0].ID != first.ID {
		t.Errorf("the weak: %+v", rest)
	}
	var shown issuerapi.BlockedKey
	w.must(http.StatusOK, http.MethodGet, "getBlockedKey", blockedKeys+"/"+first.ID, nil, &shown)
	if shown != first {
		t.Errorf("shown %+v, want %+v", shown, first)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "unblockKey", blockedKeys+"/"+first.ID, nil, nil)
	for _, id := range []string{first.ID, "abcd"} {
		w.refused(http.StatusNotFound, http.MethodDelete, "unblockKey", blockedKeys+"/"+id, nil)
		w.refused(http.StatusNotFound, http.MethodGet, "getBlockedKey", blockedKeys+"/"+id, nil)
	}
}

func TestBlockedKeys_AreNotForKeysOfALimitedScopeToChange(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	hash := strings.Repeat("ab", 32)
	w.block(object{"spki_sha256": hash, "reason": "other"})
	w.as = authn.Principal{ID: "key-web", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-web"}}}
	w.refused(http.StatusForbidden, http.MethodPost, "blockKey", blockedKeys, object{"spki_sha256": strings.Repeat("cd", 32), "reason": "other"})
	w.refused(http.StatusForbidden, http.MethodDelete, "unblockKey", blockedKeys+"/"+hash, nil)
	w.must(http.StatusOK, http.MethodGet, "getBlockedKey", blockedKeys+"/"+hash, nil, nil)
}

func TestBlockKey_RefusesWhatNamesNoKeyAndKeepsNothing(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	for field, body := range map[string]object{
		"spki_sha256": {"reason": "weak"},
		"csr_pem":     {"csr_pem": "x", "reason": "weak"},
		"comment":     {"spki_sha256": strings.Repeat("ab", 32), "reason": "weak", "comment": "a\x00b"},
		"reason":      {"spki_sha256": strings.Repeat("ab", 32), "reason": "because"},
	} {
		p := w.refused(http.StatusBadRequest, http.MethodPost, "blockKey", blockedKeys, body)
		if len(p.Errors) != 1 || p.Errors[0].Name != field {
			t.Errorf("%s: %+v", field, p)
		}
	}
	if n := w.count(`SELECT count(*) FROM blocked_keys`); n != 0 {
		t.Errorf("%d keys are blocked", n)
	}
}

func TestIssuer_CertifiesNoKeyThatEverybodyHas(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	// The secret key of RFC 8032 section 7.1, test 2.
	seed, err := hex.DecodeString("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
	if err != nil {
		t.Fatal(err)
	}
	csr := catest.NewCSR(t, ed25519.NewKeyFromSeed(seed), "www.example.com", "www.example.com")
	p := w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates, object{"common_name": "www.example.com", "csr_pem": csr})
	if !strings.Contains(p.Message, "published (RFC 8032") {
		t.Errorf("refused: %q", p.Message)
	}
}
