package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/deploymentapi"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/libs/fault"
	"github.com/certctl/certctl/libs/httpx"
	"github.com/certctl/certctl/libs/natshttp"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

const certificates = "/api/v1/certificates"

// problem is what a refusal says.
type problem struct {
	Message   string
	RequestID string `json:"request_id"`
	Errors    []fault.Field
}

// refused makes a call that must be refused, and returns why.
func (w *world) refused(want int, method, operation, path string, body any) problem {
	w.t.Helper()
	status, text := w.try(method, operation, path, body)
	var p problem
	if status != want || json.Unmarshal(text, &p) != nil || p.Message == "" || p.RequestID == "" {
		w.t.Errorf("%s %s: %d, want %d: %s", method, path, status, want, text)
	}
	return p
}

// deployment answers getTarget as the deployment service does.
func (w *world) deployment(targets map[string]deploymentapi.Target) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	started, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- natshttp.Serve(ctx, w.conn.NC, natshttp.Options{
			Service: "deployment", Operations: []string{"getTarget"}, Started: func() { close(started) },
		}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			p := authn.FromContext(r.Context())
			found, ok := targets[strings.TrimPrefix(r.URL.Path, "/api/v1/targets/")]
			if !ok || p.Kind != authn.KindSystem {
				httpx.NotFound(rw, r)
				return
			}
			httpx.WriteJSON(rw, http.StatusOK, found)
		}))
	}()
	<-started
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

func TestCreate_RefusesWhatIsWrongAndStoresNothing(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.deployment(nil)
	csr := csrFor(t, "www.example.com")
	tests := []struct {
		name, body string
		status     int
		field      string
	}{
		{"no JSON", `{"common_name":`, 400, ""},
		{"nothing", ``, 400, ""},
		{"another type", `{"common_name":7}`, 400, "common_name"},
		{"a list where an object is due", `[]`, 400, ""},
		{"null", `null`, 400, "common_name"},
		{"no common name", `{}`, 400, "common_name"},
		{"an unknown owner", `{"common_name":"a.example.com","owner_id":"o-none"}`, 400, "owner_id"},
		{"an unknown team", `{"common_name":"a.example.com","team_id":"t-none"}`, 400, "team_id"},
		{"an unknown renewal policy", `{"common_name":"a.example.com","renewal_policy_id":"rp-none"}`, 400, "renewal_policy_id"},
		{"an unknown issuer", `{"common_name":"a.example.com","issuer_id":"iss-none"}`, 400, "issuer_id"},
		{"an unknown target", `{"common_name":"a.example.com","target_ids":["tgt-none"]}`, 400, "target_ids[0]"},
		{"a request for another name", fmt.Sprintf(`{"common_name":"a.example.com","csr_pem":%q}`, csr), 400, "csr_pem"},
		{"no request", `{"common_name":"a.example.com","csr_pem":"hello"}`, 400, "csr_pem"},
		{"a NUL", `{"common_name":"a.example.com","name":"a\u0000b"}`, 400, "name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := w.refused(tt.status, http.MethodPost, "createCertificate", certificates, tt.body)
			if tt.field != "" && (len(p.Errors) != 1 || p.Errors[0].Name != tt.field) {
				t.Errorf("fields %+v, want %s", p.Errors, tt.field)
			}
		})
	}
	var list issuerapi.CertificateList
	w.must(http.StatusOK, http.MethodGet, "listCertificates", certificates, nil, &list)
	if list.Total != 0 || len(list.Data) != 0 {
		t.Errorf("stored %+v", list.Data)
	}
}

func TestCreate_RefusesAnIDThatIsTaken(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	body := map[string]any{"id": "mc-www", "common_name": "www.example.com"}
	w.create(body)
	p := w.refused(http.StatusConflict, http.MethodPost, "createCertificate", certificates, body)
	if !strings.Contains(p.Message, "mc-www") {
		t.Errorf("message %q", p.Message)
	}
}

func TestCreate_AsksForATargetThatWasMadeAMomentAgo(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	body := map[string]any{"common_name": "www.example.com", "target_ids": []string{"tgt-new"}}
	if p := w.refused(http.StatusServiceUnavailable, http.MethodPost, "createCertificate", certificates, body); !strings.Contains(p.Message, "tgt-new") {
		t.Errorf("while deployment is away: %q", p.Message)
	}
	w.deployment(map[string]deploymentapi.Target{
		"tgt-new": {ID: "tgt-new", AgentID: "agent-1", Enabled: true},
		"tgt-off": {ID: "tgt-off", AgentID: "agent-1"},
	})
	c := w.create(body)
	if asked := w.keyRequest(c.ID, 1); asked.AgentID != "agent-1" {
		t.Errorf("asked %+v", asked)
	}
	body["target_ids"] = []string{"tgt-off"}
	w.refused(http.StatusBadRequest, http.MethodPost, "createCertificate", certificates, body)
	// The event, when it comes, is newer than what was learnt by asking.
	w.target("tgt-new", "agent-2")
	w.await("the event to be believed", func() bool {
		var agent string
		if err := w.pool.QueryRow(t.Context(), `SELECT agent_id FROM target_agents WHERE target_id = 'tgt-new'`).Scan(&agent); err != nil {
			t.Fatal(err)
		}
		return agent == "agent-2"
	})
}

func TestCreate_AnswersEachOfManyAtOnceForItself(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	key := catest.NewKey(t, ecdsa)
	const n = 64
	var made, taken, unknown atomic.Int32
	var wg sync.WaitGroup
	for i := range n {
		name := fmt.Sprintf("host-%d.example.com", i)
		body := map[string]any{"common_name": name, "csr_pem": catest.NewCSR(t, key, name, name)}
		switch i % 4 {
		case 1:
			body["id"] = "mc-same"
		case 2:
			body["owner_id"] = "o-none"
		}
		wg.Go(func() {
			status, text := w.try(http.MethodPost, "createCertificate", certificates, body)
			switch status {
			case http.StatusCreated:
				made.Add(1)
			case http.StatusConflict:
				taken.Add(1)
			case http.StatusBadRequest:
				unknown.Add(1)
			default:
				t.Errorf("%d %s", status, text)
			}
		})
	}
	wg.Wait()
	if made.Load() != n/2+1 || taken.Load() != n/4-1 || unknown.Load() != n/4 {
		t.Errorf("%d made, %d taken, %d unknown", made.Load(), taken.Load(), unknown.Load())
	}
	w.await("all events", func() bool {
		return len(all(w.heard, func(event.CertificateIssued) bool { return true })) == n/2+1
	})
	var odd int
	err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM certificates c
		LEFT JOIN jobs j ON j.certificate_id = c.id LEFT JOIN certificate_versions v ON v.job_id = j.id
		WHERE c.status <> 'Active' OR c.version <> 2 OR j.status IS DISTINCT FROM 'Completed'
			OR v.serial_number IS DISTINCT FROM c.serial_number`).Scan(&odd)
	if err != nil || odd != 0 {
		t.Errorf("%d certificates are not whole: %v", odd, err)
	}
}

func TestSubmit_TakesTheRequestThatACertificateWaitsFor(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c := w.create(map[string]any{"common_name": "www.example.com"})
	if c.Status != issuerapi.CertificateStatusPending || c.StatusReason == nil || !strings.Contains(*c.StatusReason, "/csr") {
		t.Errorf("answer %+v", c)
	}
	if j := w.job(*c.JobID); j.Status != issuerapi.JobStatusAwaitingCSR {
		t.Errorf("job %+v", j)
	}
	path := certificates + "/" + c.ID + "/csr"
	p := w.refused(http.StatusBadRequest, http.MethodPost, "submitCertificateCSR", path, map[string]any{"csr_pem": csrFor(t, "other.example.com")})
	if len(p.Errors) != 1 || p.Errors[0].Name != "csr_pem" {
		t.Errorf("fields %+v", p.Errors)
	}
	body := map[string]any{"csr_pem": csrFor(t, "www.example.com")}
	var done issuerapi.RenewalTriggered
	w.must(http.StatusAccepted, http.MethodPost, "submitCertificateCSR", path, body, &done)
	if done.Status != "csr_signed" || done.Version == nil || done.JobID != *c.JobID {
		t.Errorf("answer %+v", done)
	}
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusActive || now.StatusReason != nil {
		t.Errorf("certificate %+v", now)
	}
	w.refused(http.StatusConflict, http.MethodPost, "submitCertificateCSR", path, body)
	w.refused(http.StatusNotFound, http.MethodPost, "submitCertificateCSR", certificates+"/mc-none/csr", body)

	w.target("tgt-1", "agent-1")
	other := w.create(map[string]any{"common_name": "www.example.com", "target_ids": []string{"tgt-1"}})
	w.keyRequest(other.ID, 1)
	w.refused(http.StatusConflict, http.MethodPost, "submitCertificateCSR", certificates+"/"+other.ID+"/csr", body)
}

func TestRenew_RefusesWhatCannotBeRenewed(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	renewPath := func(id string) string { return certificates + "/" + id + "/renew" }
	pending := w.create(map[string]any{"common_name": "www.example.com"})
	p := w.refused(http.StatusConflict, http.MethodPost, "renewCertificate", renewPath(pending.ID), nil)
	if !strings.Contains(p.Message, "first issuance") {
		t.Errorf("message %q", p.Message)
	}
	active := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	// Older clients send a body that means nothing to us.
	first := w.renew(active.ID, map[string]any{"force": false})
	p = w.refused(http.StatusConflict, http.MethodPost, "renewCertificate", renewPath(active.ID), nil)
	if !strings.Contains(p.Message, "under way") || !strings.Contains(p.Message, "signing request") {
		t.Errorf("message %q", p.Message)
	}
	if j := w.job(first.JobID); j.Type != issuerapi.Renewal || j.Status != issuerapi.JobStatusAwaitingCSR {
		t.Errorf("job %+v", j)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/"+active.ID, nil, nil)
	p = w.refused(http.StatusConflict, http.MethodPost, "renewCertificate", renewPath(active.ID), nil)
	if !strings.Contains(p.Message, "archived") {
		t.Errorf("message %q", p.Message)
	}
	if j := w.job(first.JobID); j.Status != issuerapi.JobStatusCancelled {
		t.Errorf("the archived certificate's job is %s", j.Status)
	}
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/"+active.ID, nil, nil)
	if told := all(w.heard, func(e event.CertificateArchived) bool { return e.CertificateID == active.ID }); len(told) > 1 {
		t.Errorf("told %d times", len(told))
	}
	w.refused(http.StatusNotFound, http.MethodPost, "renewCertificate", renewPath("mc-none"), nil)
	w.refused(http.StatusNotFound, http.MethodDelete, "archiveCertificate", certificates+"/mc-none", nil)
}

func TestRenew_SignsARequestAtOnce(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	w.refused(http.StatusBadRequest, http.MethodPost, "renewCertificate", certificates+"/"+c.ID+"/renew",
		map[string]any{"csr_pem": csrFor(t, "evil.example.com")})
	done := w.renew(c.ID, map[string]any{"csr_pem": csrFor(t, "www.example.com")})
	if done.Version == nil || done.Version.SerialNumber == *c.SerialNumber {
		t.Fatalf("answer %+v", done)
	}
	now := w.certificate(c.ID)
	if now.Status != issuerapi.CertificateStatusActive || *now.SerialNumber != done.Version.SerialNumber || now.LastRenewalAt == nil {
		t.Errorf("certificate %+v", now)
	}
	renewed, message := hear(w, func(e event.CertificateRenewed) bool { return e.CertificateID == c.ID })
	if renewed.PreviousVersionID != c.Version.ID || message.AggVersion != 4 {
		t.Errorf("renewed %+v, version %d", renewed, message.AggVersion)
	}
}

func TestRenew_ExactlyOneOfManyAtOnceBegins(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	w.start(app.Settings{})
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	var begun, refused atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			switch status, text := w.try(http.MethodPost, "renewCertificate", certificates+"/"+c.ID+"/renew", nil); status {
			case http.StatusAccepted:
				begun.Add(1)
			case http.StatusConflict:
				refused.Add(1)
			default:
				t.Errorf("%d %s", status, text)
			}
		})
	}
	wg.Wait()
	if begun.Load() != 1 || refused.Load() != 15 {
		t.Errorf("%d begun, %d refused", begun.Load(), refused.Load())
	}
}

func TestCancel_StopsAJobThatHasNotEnded(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	cancel := func(id string) string { return "/api/v1/jobs/" + id + "/cancel" }
	w.refused(http.StatusConflict, http.MethodPost, "cancelJob", cancel(*c.JobID), nil)
	w.refused(http.StatusNotFound, http.MethodPost, "cancelJob", cancel("job-i-none"), nil)

	renewal := w.renew(c.ID, nil)
	w.must(http.StatusOK, http.MethodPost, "cancelJob", cancel(renewal.JobID), nil, nil)
	if now := w.certificate(c.ID); now.Status != issuerapi.CertificateStatusActive {
		t.Errorf("after a cancelled renewal: %s", now.Status)
	}
	w.renew(c.ID, nil)

	never := w.create(map[string]any{"common_name": "www.example.com"})
	w.must(http.StatusOK, http.MethodPost, "cancelJob", cancel(*never.JobID), nil, nil)
	now := w.certificate(never.ID)
	if now.Status != issuerapi.CertificateStatusFailed || now.StatusReason == nil || !strings.Contains(*now.StatusReason, admin.ID) {
		t.Errorf("after a cancelled issuance: %+v", now)
	}
	again := w.renew(never.ID, map[string]any{"csr_pem": csrFor(t, "www.example.com")})
	if j := w.job(again.JobID); j.Type != issuerapi.Issuance || again.Version == nil {
		t.Errorf("issued after all: %+v %+v", j, again)
	}
	if now := w.certificate(never.ID); now.Status != issuerapi.CertificateStatusActive || now.LastRenewalAt != nil {
		t.Errorf("after it was issued: %+v", now)
	}
}
