package app_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certctl/certctl/contracts/event"
	"github.com/certctl/certctl/contracts/httpapi/issuerapi"
	"github.com/certctl/certctl/libs/authn"
	"github.com/certctl/certctl/services/issuer/internal/app"
	"github.com/certctl/certctl/services/issuer/internal/ca/catest"
)

// deploy asks for a deployment, and returns the answer and the event that tells of it.
func (w *world) deploy(certificateID string, body any) (issuerapi.DeploymentTriggered, event.CertificateDeploymentRequested) {
	w.t.Helper()
	before := len(all(w.heard, func(event.CertificateDeploymentRequested) bool { return true }))
	var answer issuerapi.DeploymentTriggered
	w.must(http.StatusAccepted, http.MethodPost, "deployCertificate", certificates+"/"+certificateID+"/deploy", body, &answer)
	if answer.Status != "deployment_triggered" {
		w.t.Errorf("status %s", answer.Status)
	}
	var told []heardEvent
	w.await("the wish", func() bool {
		told = all(w.heard, func(event.CertificateDeploymentRequested) bool { return true })
		return len(told) > before
	})
	return answer, told[before].Event.(event.CertificateDeploymentRequested)
}

// served has a version be served by targets, as the deployment service tells.
func (w *world) served(certificateID, versionID string, targets ...string) {
	w.t.Helper()
	for _, target := range targets {
		w.publish(event.DeploymentCompleted{Deployment: event.Deployment{
			JobID: "job-d-" + target, CertificateID: certificateID, VersionID: versionID, TargetID: target,
		}}, 1)
	}
	w.settled()
}

// twoVersions is a certificate on two targets whose second version is issued and not yet served.
func (w *world) twoVersions() (c issuerapi.Certificate, first event.CertificateIssued, second event.CertificateRenewed) {
	w.t.Helper()
	w.target("tgt-1", "agent-1")
	w.target("tgt-2", "agent-1")
	c, asked := w.withTarget("tgt-1", "tgt-2")
	w.answer(asked, catest.NewKey(w.t, ecdsa))
	first, _ = hear(w, func(e event.CertificateIssued) bool { return e.CertificateID == c.ID })
	w.served(c.ID, first.VersionID, "tgt-1", "tgt-2")
	// Its end is not that of the second.
	w.exec(`UPDATE issuer.certificate_versions SET not_after = not_after - interval '1 day'`)
	renewal := w.renew(c.ID, nil)
	again := w.asked(func(e event.CertificateKeyRequested) bool { return e.JobID == renewal.JobID })
	w.answer(again, catest.NewKey(w.t, ecdsa))
	second, _ = hear(w, func(e event.CertificateRenewed) bool { return e.CertificateID == c.ID })
	return c, first, second
}

func (w *world) isNow(id string, status issuerapi.CertificateStatus, reason string) issuerapi.Certificate {
	w.t.Helper()
	c := w.certificate(id)
	got := ""
	if c.StatusReason != nil {
		got = *c.StatusReason
	}
	if c.Status != status || !strings.HasPrefix(got, reason) || reason == "" && got != "" {
		w.t.Errorf("the certificate is %s: %q, want %s: %q", c.Status, got, status, reason)
	}
	return c
}

func TestDeploy_OfTheNewestVersionNeedsNoBody(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c, _, second := w.twoVersions()
	w.served(c.ID, second.VersionID, "tgt-1", "tgt-2")
	answer, told := w.deploy(c.ID, nil)
	if answer.VersionID != second.VersionID || !cmp.Equal(answer.TargetIds, []string{"tgt-1", "tgt-2"}) {
		t.Errorf("%+v", answer)
	}
	want := event.CertificateDeploymentRequested{
		CertificateID: c.ID, IssuerID: "iss-local", CommonName: "www.example.com", TargetIDs: []string{"tgt-1", "tgt-2"},
		KeyAgentID: "agent-1", RequestedBy: admin.ID, Version: second.Version,
	}
	// Told of what was just issued only; the chain tells.
	want.AuthorityKeyID = ""
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
	w.isNow(c.ID, issuerapi.CertificateStatusActive, "")
	// What is no JSON is not read.
	w.contentType = "application/x-www-form-urlencoded"
	if answer, _ := w.deploy(c.ID, `target_id=tgt-1`); len(answer.TargetIds) != 2 {
		t.Errorf("%+v", answer)
	}
	w.contentType = "application/json; charset=utf-8"
	if answer, _ := w.deploy(c.ID, `{"target_id": "tgt-2"}`); !cmp.Equal(answer.TargetIds, []string{"tgt-2"}) {
		t.Errorf("%+v", answer)
	}
	w.contentType = ""
	w.refused(http.StatusBadRequest, http.MethodPost, "deployCertificate", certificates+"/"+c.ID+"/deploy", `{"target_id": `)
}

func TestRollback_OfARenewalThatIsNotServedYetMakesTheCertificateActiveAgain(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c, first, second := w.twoVersions()
	newest := w.isNow(c.ID, issuerapi.CertificateStatusRenewalInProgress, "issued; waits")
	if _, told := w.deploy(c.ID, map[string]any{"version_id": first.VersionID}); !told.Rollback || told.VersionID != first.VersionID {
		t.Errorf("told %+v", told)
	}
	w.served(c.ID, first.VersionID, "tgt-1", "tgt-2")
	back := w.isNow(c.ID, issuerapi.CertificateStatusActive, "rolled back to "+first.VersionID)
	if !back.ExpiresAt.Before(newest.ExpiresAt) {
		t.Errorf("it expires at %s, when what is not served does", back.ExpiresAt)
	}
	hear(w, func(e event.CertificateActivated) bool {
		return e.CertificateID == c.ID && e.VersionID == first.VersionID
	})
	// What comes late of the newest changes nothing, until it is asked for.
	w.served(c.ID, second.VersionID, "tgt-1", "tgt-2")
	w.isNow(c.ID, issuerapi.CertificateStatusActive, "rolled back to "+first.VersionID)
	w.deploy(c.ID, map[string]any{})
	w.served(c.ID, second.VersionID, "tgt-1", "tgt-2")
	if now := w.isNow(c.ID, issuerapi.CertificateStatusActive, ""); !now.ExpiresAt.Equal(newest.ExpiresAt) {
		t.Errorf("it expires at %s, want %s", now.ExpiresAt, newest.ExpiresAt)
	}
}

func TestRollback_IsNotUndoneAtOnceByTheNextRenewal(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c, first, second := w.twoVersions()
	w.served(c.ID, second.VersionID, "tgt-1", "tgt-2")
	// The older version is deep within the window of its policy.
	w.exec(`UPDATE issuer.certificate_versions SET not_after = now() + interval '2 days' WHERE id = $1`, first.VersionID)
	w.exec(`UPDATE issuer.certificate_versions SET created_at = now() - interval '60 days', not_before = now() - interval '60 days' WHERE id = $1`, second.VersionID)
	w.deploy(c.ID, map[string]any{"version_id": first.VersionID})
	w.served(c.ID, first.VersionID, "tgt-1", "tgt-2")
	w.isNow(c.ID, issuerapi.CertificateStatusActive, "rolled back to "+first.VersionID)
	var plan issuerapi.RenewalPlan
	w.must(http.StatusOK, http.MethodGet, "getRenewalPlan", certificates+"/"+c.ID+"/renewal-plan", nil, &plan)
	if plan.NextRenewalAt == nil || plan.NextRenewalAt.Before(time.Now().Add(23*time.Hour)) || plan.NextRenewalAt.After(time.Now().Add(25*time.Hour)) {
		t.Errorf("the plan is %+v", plan)
	}
}

func TestRollback_OfOneTargetLeavesTheOthersWithTheNewest(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c, first, second := w.twoVersions()
	w.deploy(c.ID, map[string]any{"version_id": first.VersionID, "target_id": "tgt-1"})
	w.served(c.ID, first.VersionID, "tgt-1")
	w.isNow(c.ID, issuerapi.CertificateStatusRenewalInProgress, "issued; waits")
	w.served(c.ID, second.VersionID, "tgt-2")
	w.isNow(c.ID, issuerapi.CertificateStatusActive, "rolled back to "+first.VersionID)

	// A renewal that is called off leaves it as it is; one that is carried through ends the rollback.
	called := w.renew(c.ID, nil)
	w.must(http.StatusOK, http.MethodPost, "cancelJob", "/api/v1/jobs/"+called.JobID+"/cancel", nil, nil)
	w.isNow(c.ID, issuerapi.CertificateStatusActive, "")
	renewal := w.renew(c.ID, nil)
	again := w.asked(func(e event.CertificateKeyRequested) bool { return e.JobID == renewal.JobID })
	w.answer(again, catest.NewKey(t, ecdsa))
	third, _ := hear(w, func(e event.CertificateRenewed) bool { return e.JobID == renewal.JobID })
	w.served(c.ID, third.VersionID, "tgt-2")
	w.isNow(c.ID, issuerapi.CertificateStatusRenewalInProgress, "issued; waits")
	w.served(c.ID, third.VersionID, "tgt-1")
	w.isNow(c.ID, issuerapi.CertificateStatusActive, "")
}

func TestRollback_ThatFailsIsToldAndChangesNothingThatIsServed(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c, first, second := w.twoVersions()
	w.served(c.ID, second.VersionID, "tgt-1", "tgt-2")
	w.deploy(c.ID, map[string]any{"version_id": first.VersionID, "target_id": "tgt-1"})
	w.publish(event.DeploymentFailed{Deployment: deploymentOf(&first, "tgt-1"), Reason: "this host has no private key"}, 1)
	w.settled()
	w.isNow(c.ID, issuerapi.CertificateStatusActive, "could not be installed on target tgt-1: this host has no private key")

	// It may be tried again.
	w.served(c.ID, first.VersionID, "tgt-1")
	w.isNow(c.ID, issuerapi.CertificateStatusActive, "rolled back to "+first.VersionID)
}

func TestRollback_ThatFailsWhileTheNewestIsNotServedFailsTheCertificate(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c, first, _ := w.twoVersions()
	w.deploy(c.ID, map[string]any{"version_id": first.VersionID})
	w.publish(event.DeploymentFailed{Deployment: deploymentOf(&first, "tgt-1"), Reason: "no room"}, 1)
	w.settled()
	w.isNow(c.ID, issuerapi.CertificateStatusFailed, "could not be installed on target tgt-1: no room")
	w.served(c.ID, first.VersionID, "tgt-1")
	w.isNow(c.ID, issuerapi.CertificateStatusActive, "rolled back to "+first.VersionID)
}

func TestDeploy_RefusesWhatCannotBe(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c, first, second := w.twoVersions()
	other := w.create(map[string]any{"common_name": "b.example.com", "csr_pem": csrFor(t, "b.example.com")})
	pending := w.create(map[string]any{"common_name": "c.example.com", "target_ids": []string{"tgt-1"}})
	refused := func(want int, says, id string, body any) {
		t.Helper()
		if p := w.refused(want, http.MethodPost, "deployCertificate", certificates+"/"+id+"/deploy", body); !strings.Contains(p.Message, says) {
			t.Errorf("refused because %q, which does not say %q", p.Message, says)
		}
	}
	refused(http.StatusBadRequest, "version_id", c.ID, map[string]any{"version_id": other.Version.ID})
	refused(http.StatusBadRequest, "version_id", c.ID, map[string]any{"version_id": "No Version"})
	refused(http.StatusBadRequest, "target_id", c.ID, map[string]any{"target_id": "tgt-9"})
	refused(http.StatusConflict, "no targets", other.ID, nil)
	refused(http.StatusConflict, "no version yet", pending.ID, nil)
	refused(http.StatusNotFound, "no certificate", "mc-none", nil)
	w.exec(`UPDATE issuer.certificate_versions SET not_after = now() - interval '1 minute' WHERE id = $1`, first.VersionID)
	refused(http.StatusConflict, "expired", c.ID, map[string]any{"version_id": first.VersionID})
	w.exec(`UPDATE issuer.certificates SET status = 'Revoked' WHERE id = $1`, c.ID)
	refused(http.StatusConflict, "Revoked", c.ID, map[string]any{"version_id": second.VersionID})
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/"+c.ID, nil, nil)
	refused(http.StatusConflict, "Archived", c.ID, nil)
	w.as = authn.Principal{ID: "key-red", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-red"}}}
	refused(http.StatusNotFound, "no certificate", c.ID, nil)
	w.as = admin
	if told := all(w.heard, func(event.CertificateDeploymentRequested) bool { return true }); len(told) != 0 {
		t.Errorf("told %v", told)
	}
}

func TestDeploy_IsRefusedByAPolicyThatForbidsIt(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	c, first, second := w.twoVersions()
	w.served(c.ID, second.VersionID, "tgt-1", "tgt-2")
	rule := w.policyRule(object{
		"id": "pr-zone", "name": "Zone", "type": "AllowedDomains", "severity": "Error", "enabled": true,
		"config": object{"allow": []string{"example.org"}},
	})
	p := w.refused(http.StatusConflict, http.MethodPost, "deployCertificate", certificates+"/"+c.ID+"/deploy", object{"version_id": first.VersionID})
	if !strings.Contains(p.Message, "Zone") || !strings.Contains(p.Message, "www.example.com") {
		t.Errorf("refused because %q", p.Message)
	}
	if v := w.violations(rule.ID); len(v) != 1 {
		t.Errorf("violations %+v", v)
	}
	w.changeRule(rule.ID, object{"severity": "Warning"})
	w.deploy(c.ID, object{"version_id": first.VersionID})
}

func TestRetry_DoesAFailedJobAgainAsANewOne(t *testing.T) {
	w := newWorld(t)
	w.start(app.Settings{})
	retry := func(id string) string { return "/api/v1/jobs/" + id + "/retry" }
	c := w.create(map[string]any{"common_name": "www.example.com", "csr_pem": csrFor(t, "www.example.com")})
	w.refused(http.StatusConflict, http.MethodPost, "retryJob", retry(*c.JobID), nil)
	w.refused(http.StatusNotFound, http.MethodPost, "retryJob", retry("job-i-none"), nil)

	called := w.renew(c.ID, nil)
	w.refused(http.StatusConflict, http.MethodPost, "retryJob", retry(called.JobID), nil)
	w.must(http.StatusOK, http.MethodPost, "cancelJob", "/api/v1/jobs/"+called.JobID+"/cancel", nil, nil)
	before := w.job(called.JobID)
	var again issuerapi.JobRetried
	w.must(http.StatusAccepted, http.MethodPost, "retryJob", retry(called.JobID), nil, &again)
	if again.Status != "job_retried" || again.JobID == called.JobID {
		t.Errorf("%+v", again)
	}
	if diff := cmp.Diff(before, w.job(called.JobID)); diff != "" {
		t.Errorf("the job that had ended changed:\n%s", diff)
	}
	if j := w.job(again.JobID); j.Type != issuerapi.Renewal || j.Status != issuerapi.JobStatusAwaitingCSR {
		t.Errorf("%+v", j)
	}
	w.refused(http.StatusConflict, http.MethodPost, "retryJob", retry(called.JobID), nil)
	w.as = authn.Principal{ID: "key-red", Kind: authn.KindUser, Scope: authn.Scope{Teams: []string{"t-red"}}}
	w.refused(http.StatusNotFound, http.MethodPost, "retryJob", retry(called.JobID), nil)
	w.as = admin
	w.must(http.StatusNoContent, http.MethodDelete, "archiveCertificate", certificates+"/"+c.ID, nil, nil)
	w.refused(http.StatusConflict, http.MethodPost, "retryJob", retry(called.JobID), nil)
}
