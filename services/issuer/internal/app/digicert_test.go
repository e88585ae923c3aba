package app_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/digicert/digicertfake"
)

// certCentral is an account whose orders are decided at once. Its root is trusted.
func (w *world) certCentral() *digicertfake.Server {
	w.t.Helper()
	s, err := digicertfake.Start()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	w.trusted = append(w.trusted, s.Root)
	s.DecideAfter(1)
	return s
}

func TestDigiCert_SetUpByTheAPIIssuesAndRenews(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	s := w.certCentral()
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
	w.issues(i.ID)
	if n := s.Orders(); n != 3 {
		t.Errorf("%d orders for 3 certificates", n)
	}
	s.Close()
	p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "testIssuer", issuers+"/"+i.ID+"/test", nil)
	if !strings.Contains(p.Message, "cannot be reached") {
		t.Errorf("tested: %q", p.Message)
	}
}

func TestEnvironment_SetsUpAnAccountOfCertCentral(t *testing.T) {
	w := newWorld(t)
	s := w.certCentral()
	w.start(app.Settings{DigiCert: app.DigiCert{APIKey: digicertfake.APIKey, OrganizationID: digicertfake.OrganizationID, BaseURL: s.BaseURL()}})
	w.signed(w.create(map[string]any{"common_name": "www.example.com", "issuer_id": "iss-digicert", "csr_pem": csrFor(t, "www.example.com")}))
	i := w.read("iss-digicert")
	if i.Config["api_key"] != "(secret)" || i.Type != "DigiCert" || s.Orders() != 1 {
		t.Errorf("set up %+v, %d orders", i, s.Orders())
	}
}

// account sets up an issuer of an account, and starts whoever issues.
func (w *world) account(s *digicertfake.Server) (app.Settings, *issuer) {
	w.t.Helper()
	settings := app.Settings{DigiCert: app.DigiCert{APIKey: digicertfake.APIKey, OrganizationID: digicertfake.OrganizationID, BaseURL: s.BaseURL()}}
	running := w.start(settings)
	w.target("tgt-1", "agent-1")
	return settings, running
}

// soon has whatever waits looked at now.
func (w *world) soon() {
	w.t.Helper()
	w.exec(`UPDATE issuer.jobs SET next_action_at = now() WHERE status = 'Pending'`)
	w.wakeWorker()
}

func (w *world) reasonSays(id, says string) {
	w.t.Helper()
	w.await(says, func() bool {
		r := w.certificate(id).StatusReason
		return r != nil && strings.Contains(*r, says)
	})
}

// An order of CertCentral may take days, in which processes come and go.
func TestDigiCert_GoesOnWithAnOrderThatTakesItsTimeAfterARestart(t *testing.T) {
	w := newWorld(t)
	s := w.certCentral()
	s.DecideAfter(3)
	s.NeedApproval()
	settings, first := w.account(s)
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": "iss-digicert", "csr_pem": csrFor(t, "www.example.com")})
	w.reasonSays(c.ID, "waits for an administrator to approve it there; asked again at")
	first.end()
	w.start(settings)
	s.Approve()
	w.soon()
	w.reasonSays(c.ID, "are being validated")
	w.await("the certificate", func() bool {
		w.soon()
		return len(all(w.heard, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })) > 0
	})
	if s.Orders() != 1 {
		t.Errorf("%d orders", s.Orders())
	}
}

func TestDigiCert_OrdersOnceThoughTheAnswerIsLost(t *testing.T) {
	w := newWorld(t)
	s := w.certCentral()
	w.account(s)
	s.Drop(1)
	w.signed(w.create(map[string]any{"common_name": "www.example.com", "issuer_id": "iss-digicert", "csr_pem": csrFor(t, "www.example.com")}))
	if s.Orders() != 1 {
		t.Errorf("%d orders", s.Orders())
	}
}

func TestDigiCert_AnOrderThatIsTurnedDownFailsWithTheReason(t *testing.T) {
	w := newWorld(t)
	s := w.certCentral()
	s.DecideAfter(1000)
	w.account(s)
	c := w.create(map[string]any{"common_name": "www.example.com", "issuer_id": "iss-digicert", "csr_pem": csrFor(t, "www.example.com")})
	w.reasonSays(c.ID, "are being validated")
	s.Decide("rejected", "the organization is not known")
	w.soon()
	failed, _ := hear(w, func(e event.CertificateFailed) bool { return e.CertificateID == c.ID })
	if !strings.Contains(failed.Reason, "was rejected: the organization is not known") || s.Orders() != 1 {
		t.Errorf("failed %q, %d orders", failed.Reason, s.Orders())
	}
}

func TestBlockedKey_IsRefusedBeforeACAElsewhereIsAsked(t *testing.T) {
	w := newWorld(t)
	s := w.certCentral()
	w.account(s)
	csr := csrFor(t, "www.example.com")
	w.block(object{"csr_pem": csr, "reason": "weak"})
	p := w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates, object{"common_name": "www.example.com", "issuer_id": "iss-digicert", "csr_pem": csr})
	if !strings.Contains(p.Message, "it is weak") || s.Orders() != 0 {
		t.Errorf("refused: %q, %d orders", p.Message, s.Orders())
	}
}
