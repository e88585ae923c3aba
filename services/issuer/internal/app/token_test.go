package app_test

import (
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

func TestToken_CASetUpByTheAPIIssuesAndSignsLists(t *testing.T) {
	s := signertest.Start(t)
	w := newWorld(t)
	w.start(app.Settings{Signer: s.Socket})
	i := w.hsm("iss-hsm", "certctl-ca")
	for setting, want := range map[string]any{
		"key_store": "pkcs11", "key_label": "certctl-ca", "key_algorithm": "ECDSA-P256", "mode": "self-signed", "common_name": "HSM",
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
