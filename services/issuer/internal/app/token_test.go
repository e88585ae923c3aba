package app_test

import (
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/command"
	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/testkit/signertest"
	"github.com/certctl/certctl/libs/testkit/softhsm"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// hsm sets up a Local CA with its key in a signer's token.
func (w *world) hsm(id, label string) issuerapi.Issuer {
	w.t.Helper()
	return w.issuer(map[string]any{
		"id": id, "name": "HSM", "type": "GenericCA", "enabled": true, "config": map[string]any{"key_store": "pkcs11", "key_label": label},
	})
}

// servedBy has an issuer that is asked in the background issue, and returns what is served, leaf first.
func (w *world) servedBy(issuerID, name string) []*x509.Certificate {
	w.t.Helper()
	t := w.t.(*testing.T)
	c := w.signed(w.create(map[string]any{"common_name": name, "issuer_id": issuerID, "csr_pem": csrFor(t, name)}))
	return parsed(t, c.Version.PemChain)
}

func TestToken_CASetUpByTheAPIIssuesAndSignsLists(t *testing.T) {
	s := signertest.Start(t)
	w := newWorld(t)
	w.start(app.Settings{Signer: s.Socket})
	i := w.hsm("iss-hsm", "certctl-ca")
	for setting, want := range map[string]any{
		"key_store": "pkcs11", "key_label": "certctl-ca", "mode": "self-signed", "common_name": "HSM",
	} {
		if i.Config[setting] != want {
			t.Errorf("%s is %v, want %v", setting, i.Config[setting], want)
		}
	}
	if n := w.count(`SELECT count(*) FROM ca_keys WHERE issuer_id = 'iss-hsm' AND sealed_key IS NULL AND token_key = 'certctl-ca'`); n != 1 {
		t.Error("the row does not say by which label the key is found")
	}
	w.issues(i.ID)
	list := ask[command.SignedCRL](w, "signCRL", command.SignCRL{IssuerID: i.ID, Number: 1, ThisUpdate: "2026-11-24T00:00:00Z", NextUpdate: "2026-11-25T00:00:00Z"})
	if list.Fault != nil {
		t.Errorf("list: %+v", list.Fault)
	}
	responder := ask[command.OCSPResponder](w, "issueOCSPResponder", command.IssueOCSPResponder{
		IssuerID: i.ID, CSRPEM: catest.NewCSR(t, catest.NewKey(t, ecdsa), "responder"),
	})
	if responder.Fault != nil {
		t.Errorf("responder: %+v", responder.Fault)
	}
	// What a client sends back of what it has read is no change.
	w.must(http.StatusOK, http.MethodPut, "updateIssuer", issuers+"/"+i.ID, map[string]any{"config": i.Config}, nil)
	p := w.refused(http.StatusBadRequest, http.MethodPut, "updateIssuer", issuers+"/"+i.ID, map[string]any{"config": map[string]any{"key_label": "other"}})
	if !strings.Contains(p.Message, "config.key_label: cannot be changed") {
		t.Errorf("relabelled: %q", p.Message)
	}
}

func TestToken_KeyServesOneIssuer(t *testing.T) {
	s := signertest.Start(t)
	w := newWorld(t)
	w.start(app.Settings{Signer: s.Socket})
	w.hsm("iss-one", "certctl-ca")
	p := w.refused(http.StatusConflict, http.MethodPost, "createIssuer", issuers, map[string]any{
		"id": "iss-two", "name": "Two", "type": "GenericCA", "config": map[string]any{"key_store": "pkcs11", "key_label": "certctl-ca"},
	})
	if !strings.Contains(p.Message, "the key certctl-ca in the token is another issuer's") {
		t.Errorf("refused: %q", p.Message)
	}
	// An issuer that is gone leaves its key to the next.
	w.must(http.StatusNoContent, http.MethodDelete, "deleteIssuer", issuers+"/iss-one", nil, nil)
	w.hsm("iss-two", "certctl-ca")
}

func TestToken_RestartsOfSignerAndIssuerLoseNothing(t *testing.T) {
	s := signertest.Start(t)
	w := newWorld(t)
	first := w.start(app.Settings{Signer: s.Socket})
	w.target("tgt-1", "agent-1")
	i := w.hsm("iss-hsm", "certctl-ca")

	// The signer crashes between the request and the answer of the agent.
	by := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": i.ID, "target_ids": []string{"tgt-1"}})
	asked := w.keyRequest(by.ID, 1)
	s.Kill()
	w.answer(asked, catest.NewKey(t, ecdsa))
	w.await("the setback", func() bool {
		r := w.certificate(by.ID).StatusReason
		return r != nil && strings.Contains(*r, "certctl-signer is not running") && strings.Contains(*r, "next attempt at")
	})
	// The issuer starts without it, and serves its other CAs.
	first.end()
	w.start(app.Settings{Signer: s.Socket})
	w.create(map[string]any{"common_name": "local.example.com", "csr_pem": csrFor(t, "local.example.com")})
	p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/"+i.ID+"/test", nil)
	if !strings.Contains(p.Message, "certctl-signer is not running") {
		t.Errorf("tested: %q", p.Message)
	}
	s.Run()
	w.exec(`UPDATE issuer.jobs SET next_action_at = now() WHERE certificate_id = $1`, by.ID)
	issued, _ := hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == by.ID })
	if issued.IssuerID != i.ID {
		t.Errorf("issued %+v", issued)
	}
	if now := w.read(i.ID); *now.CaChainPem != *i.CaChainPem {
		t.Error("a restart made another CA")
	}
}

func TestToken_TestSaysWhatIsWrong(t *testing.T) {
	s := signertest.Start(t)
	w := newWorld(t)
	w.start(app.Settings{Signer: s.Socket})
	i := w.hsm("iss-hsm", "certctl-ca")
	if tested := w.test(i.ID); tested.Subject == nil || *tested.Subject != "CN=HSM" || !tested.SignsCrl {
		t.Errorf("tested %+v", tested)
	}
	refused := func(want string) {
		t.Helper()
		p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/"+i.ID+"/test", nil)
		if !strings.Contains(p.Message, want) || strings.Contains(p.Message, softhsm.PIN) {
			t.Errorf("tested: %q, want %q", p.Message, want)
		}
	}
	restart := func(env ...string) {
		s.Kill()
		s.Run(env...)
	}
	s.Token.WritePIN(t, "000000")
	restart()
	refused("refused the PIN")
	s.Token.WritePIN(t, softhsm.PIN)
	putBack := s.Token.TakeOut(t)
	restart()
	refused("is not present")
	s.Token.Init(t)
	refused("has no key certctl-ca")
	s.Kill()
	putBack()
	refused("is not running")
	s.Run()
	w.test(i.ID)
}

// TestToken_CAsBelowAndNextKeysAreInTheTokenToo has a root and a CA below it in the token, and rolls the root over.
func TestToken_CAsBelowAndNextKeysAreInTheTokenToo(t *testing.T) {
	s := signertest.Start(t)
	w := newWorld(t)
	w.start(app.Settings{PublicURL: publicURL, Signer: s.Socket})
	root := w.hsm("iss-root", "certctl-root")
	below := w.issuer(map[string]any{
		"id": "iss-below", "name": "Below", "type": "GenericCA", "enabled": true,
		"config": map[string]any{"key_store": "pkcs11", "parent_issuer_id": "iss-root", "key_algorithm": "ECDSA-P384"},
	})
	if below.Config["key_label"] != "iss-below" || below.Config["mode"] != "intermediate" {
		t.Errorf("the CA below is %+v", below.Config)
	}
	if err := verifies(t, parsed(t, *root.CaChainPem)[0], w.servedBy("iss-below", "below.example.com")); err != nil {
		t.Error(err)
	}
	old := w.servedBy("iss-root", "old.example.com")
	next := w.rollOver("iss-root", map[string]any{"cross_sign": true})
	if !next.Active || next.KeyAlgorithm != "ECDSA-P256" {
		t.Errorf("the next key is %+v", next)
	}
	if n := w.count(`SELECT count(*) FROM ca_keys WHERE issuer_id = 'iss-root' AND sealed_key IS NULL AND token_key LIKE 'certctl-root%'`); n != 2 {
		t.Errorf("%d keys of the root are in the token", n)
	}
	served := w.servedBy("iss-root", "new.example.com")
	for _, trusted := range []string{*root.CaChainPem, *next.CaChainPem} {
		if err := verifies(t, parsed(t, trusted)[0], served); err != nil {
			t.Error(err)
		}
	}
	// The key before goes on signing lists of what it issued, also after the signer was away.
	first := w.keys("iss-root").Data[0]
	s.Kill()
	s.Run()
	if list := w.signedList(t, "iss-root", first.ID); list.CheckSignatureFrom(parsed(t, *root.CaChainPem)[0]) != nil || len(old) == 0 {
		t.Error("the list of the first key is not signed by it")
	}
	if listed := s.Do("keys"); strings.Count(listed, "\n") != 4 {
		t.Errorf("the token has\n%s", listed)
	}
}

func TestToken_CABelowARootElsewhereIsCompletedByItsCertificate(t *testing.T) {
	s := signertest.Start(t)
	w := newWorld(t)
	w.start(app.Settings{PublicURL: publicURL, Signer: s.Socket})
	w.issuer(map[string]any{
		"id": "iss-out", "name": "Outside", "type": "GenericCA", "enabled": true,
		"config": map[string]any{"key_store": "pkcs11", "key_label": "certctl-out", "mode": "external"},
	})
	const path = issuers + "/iss-out/ca-request"
	root := newOfflineRoot(t)
	hand := func(text string) map[string]any { return map[string]any{"ca_cert_pem": text} }
	var asked issuerapi.IssuerCARequest
	var done issuerapi.IssuerKey
	w.must(http.StatusOK, http.MethodGet, "getIssuerCARequest", path, nil, &asked)
	w.must(http.StatusOK, http.MethodPost, "completeIssuerCARequest", issuers+"/iss-out/ca-certificate", hand(root.sign(t, asked.CsrPem)+root.text), &done)
	if err := verifies(t, root.cert, w.servedBy("iss-out", "www.example.com")); err != nil {
		t.Error(err)
	}
	// Its next key goes the same way; a request that is made again is for another key.
	var dropped issuerapi.IssuerCARequest
	w.must(http.StatusOK, http.MethodPost, "createIssuerCARequest", path, map[string]any{}, &dropped)
	w.must(http.StatusOK, http.MethodPost, "createIssuerCARequest", path, map[string]any{"key_algorithm": "RSA-2048"}, &asked)
	w.must(http.StatusOK, http.MethodPost, "completeIssuerCARequest", issuers+"/iss-out/ca-certificate", hand(root.sign(t, asked.CsrPem)+root.text), &done)
	if err := verifies(t, root.cert, w.servedBy("iss-out", "new.example.com")); err != nil || done.KeyAlgorithm != "RSA-2048" {
		t.Errorf("%v: %+v", err, done)
	}
	p := w.refused(http.StatusBadRequest, http.MethodPost, "createIssuerCARequest", path, map[string]any{"key_algorithm": "Ed25519"})
	if !strings.Contains(p.Message, "is not made in a token") {
		t.Errorf("an Ed25519 key: %q", p.Message)
	}
}
