package app_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
	"github.com/certctl/certctl/services/issuer/internal/ca/vault/vaultfake"
)

func TestVault_SetUpByTheAPIIssuesAndRenews(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
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
	if i.Type != "Vault" || i.Config["secret_id"] != "(secret)" {
		t.Errorf("made %+v", i)
	}
	if tested := w.test(i.ID); tested.Subject == nil || *tested.Subject != "CN=Vault Issuing" {
		t.Errorf("tested %+v", tested)
	}
	w.issues(i.ID)

	by := w.create(map[string]any{"common_name": "sealed.example.com", "issuer_id": i.ID, "target_ids": []string{"tgt-1"}})
	asked := w.keyRequest(by.ID, 1)
	s.Seal(true)
	w.answer(asked, catest.NewKey(t, ecdsa))
	w.await("the setback", func() bool {
		r := w.certificate(by.ID).StatusReason
		return r != nil && strings.Contains(*r, "Vault is sealed") && strings.Contains(*r, "next attempt at")
	})
	p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/"+i.ID+"/test", nil)
	if !strings.Contains(p.Message, "Vault is sealed") {
		t.Errorf("tested: %q", p.Message)
	}
}
