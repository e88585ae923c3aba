package app_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/digicert/digicertfake"
)

// certCentral is an account whose orders are decided at once.
func certCentral(t *testing.T) *digicertfake.Server {
	t.Helper()
	s, err := digicertfake.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.DecideAfter(1)
	return s
}

func TestDigiCert_SetUpByTheAPIIssuesAndRenews(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	s := certCentral(t)
	i := w.issuer(map[string]any{
		"id": "iss-web", "name": "Public", "type": "certcentral", "enabled": true, "config": map[string]any{
			"base_url": s.BaseURL(), "api_key": digicertfake.APIKey, "organization_id": digicertfake.OrganizationID,
		},
	})
	if i.Type != "DigiCert" || i.Config["api_key"] != "(secret)" {
		t.Errorf("made %+v", i)
	}
	if tested := w.test(i.ID); tested.Status != "connection_successful" || s.Orders() != 0 {
		t.Errorf("tested %+v with %d orders", tested, s.Orders())
	}
	// CertCentral shows its chain only in what it issues.
	made := 3
	w.await("its CA to be known", func() bool {
		w.create(map[string]any{"common_name": "first.example.com", "issuer_id": i.ID, "csr_pem": csrFor(t, "first.example.com")})
		made++
		return w.read(i.ID).CaChainPem != nil
	})
	w.issues(i.ID)
	if s.Orders() != made {
		t.Errorf("%d orders for %d certificates", s.Orders(), made)
	}
	s.Close()
	p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/"+i.ID+"/test", nil)
	if !strings.Contains(p.Message, "cannot be reached") {
		t.Errorf("tested: %q", p.Message)
	}
}

func TestEnvironment_SetsUpAnAccountOfCertCentral(t *testing.T) {
	w := newWorld(t)
	s := certCentral(t)
	w.start(app.Settings{DigiCert: app.DigiCert{APIKey: digicertfake.APIKey, OrganizationID: digicertfake.OrganizationID, BaseURL: s.BaseURL()}})
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": "iss-digicert", "csr_pem": csrFor(t, "www.example.com")})
	i := w.read("iss-digicert")
	if c.Version == nil {
		t.Errorf("no version: %+v", c)
	}
	if i.Config["api_key"] != "(secret)" || i.Type != "DigiCert" || s.Orders() != 1 {
		t.Errorf("set up %+v, %d orders", i, s.Orders())
	}
}
